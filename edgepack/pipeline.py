"""One model in, one proved bundle out for each target. Read `build` from top to bottom."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

from edgepack.artifact import Dim, TensorSpec, tree_sha256, tree_size
from edgepack.buildlog import build_log
from edgepack.bundle.manifest import ChosenPrecision, Release, SourceModel
from edgepack.bundle.verify import require_self_test
from edgepack.bundle.write import Golden, write_bundle
from edgepack.cache import user_cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose.choice import Choice, Prefer
from edgepack.choose.engines import runnable_here
from edgepack.choose.race import Timing
from edgepack.choose.record import record
from edgepack.choose.setup import Wishes, make_chooser, make_gate, origin_of
from edgepack.errors import ShapeError, UsageError
from edgepack.intake.request import IntakeRequest, with_shapes
from edgepack.intake.source import Source, open_source
from edgepack.names import app_name, bundle_name
from edgepack.passes.plan import Plan, ShapeRequest, left_for_want_of_data, make_plans
from edgepack.progress import Progress
from edgepack.prove.accuracy import require_measurable
from edgepack.prove.golden import golden_feeds
from edgepack.prove.sensitivity import sensitivity
from edgepack.samples.dataset import Samples
from edgepack.samples.opening import holds_images, image_frame, open_samples, require_exists
from edgepack.stages import StageRunner
from edgepack.targets import TargetProfile, load_target
from edgepack.trust.keys import SigningKey, load_private
from edgepack.trust.signature import sign as sign_bundle
from edgepack.workspace import publish, refuse_existing, workspace

#: The lane in which what all targets share is shown.
INTAKE = "intake"


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """One finished bundle.

    Attributes:
        size_before, size_after: bytes of the user's model and of the shipped model file.
        worst: (stage, L∞ distance from the source framework over all outputs and cases), in order.
        accuracy: how accuracy was measured, and all that was tried.
        timings: of each precision that came into question, where they were timed.
        untimed: why they were not, where this machine could have; empty otherwise.
        left_out: precisions that came into question and that data or this machine lack something for, with what; empty otherwise.
        signed_by: the id of the key that signed it; None: not signed.
    """

    target: str
    bundle: Path
    precision: str
    because: str
    size_before: int
    size_after: int
    worst: tuple[tuple[str, float], ...]
    accuracy: ChosenPrecision
    timings: Mapping[str, Timing]
    untimed: str
    next: str
    signed_by: str | None = None
    left_out: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data["bundle"] = str(self.bundle)
        data["accuracy"] = self.accuracy.model_dump(mode="json")
        data["timings"] = {name: t.as_data() for name, t in self.timings.items()}
        data["worst"] = [{"stage": s, "max_abs": d} for s, d in self.worst]
        return data


def build(
    model: str | Path,
    *,
    targets: Sequence[str | TargetProfile],
    output_dir: str | Path = "dist",
    precision: str = "auto",
    calibration: object = None,
    preprocessing: object = None,
    evaluation: object = None,
    metric: str | None = None,
    max_drop: float | None = None,
    prefer: Prefer = "speed",
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    batch: int | str | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    intake: IntakeRequest | None = None,
    app: str | None = None,
    version: str = "0.0.0",
    release_seq: int = 0,
    sign: str | Path | SigningKey | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[BuildResult, ...]:
    """Build one bundle per target from a trained model.

    Args:
        model: a .keras, .h5/.hdf5, SavedModel folder, .tflite, .onnx, frozen .pb, or TF 1 checkpoint.
        targets: names, YAML files, or profiles.
        precision: "auto", or one of `targets.Precision` for all targets.
        calibration: representative inputs, see `samples.opening.open_samples`: a .npz, .npy or .csv file, a folder of images,
            "module:function", arrays; [N, …] in the model's own preprocessing.
        preprocessing: how images become the input: a preset's name, a YAML file, or a mapping. Calibration and evaluation read image
            files so, and the manifest tells the loader. Arrays are taken for images in it already.
        evaluation: the same, with labels. Without, agreement with the float model on the calibration data is measured.
        metric: "top1", "top5", "mse", "mae", "iou", or "module:function"; "top1" where there are labels.
        max_drop: by how much the metric may be worse than the float model's; 0.5 points with labels, 1.0 (of agreement) without. A
            metric with a unit of its own (mse, mae, yours) needs it.
        prefer: what counts among the precisions that are accurate enough.
        shapes: sizes by input, for free dimensions.
        batch: size of a free batch dimension (the profiles say 1), or "free" to leave it.
        atol, rtol: replace the profiles' parity tolerances, |a − b| ≤ atol + rtol·|b|.
        intake: which part of the model to take, and how; all of it otherwise.
        app: the name in the manifest and in folder names; the model's file name otherwise.
        sign: the private key that signs the bundles, or its file (an encrypted one's password: $EDGEPACK_KEY_PASSWORD).

    Returns: one result per target, in the order asked for. Either all bundles are in place, or none is.

    Raises:
        EdgepackError: one of its kinds, with the remedy.
    """
    path, output = Path(model), Path(output_dir)
    progress = progress or Progress()
    key = load_private(Path(sign)) if isinstance(sign, (str, Path)) else sign
    name = app_name(app, path)
    release = Release(app=name, version=version, seq=release_seq)
    profiles = _profiles(targets)
    require_exists(calibration)
    require_exists(evaluation, what="evaluation data")
    require_measurable(
        metric,
        labelled=evaluation is not None,
        data=evaluation is not None or calibration is not None,
        max_drop=max_drop,
    )
    request = ShapeRequest.of(shapes, batch)
    legal = [
        make_plans(
            profile,
            requested=precision,
            calibrated=calibration is not None,
            measurable=evaluation is not None,
            shapes=request,
            atol=atol,
            rtol=rtol,
        )
        for profile in profiles
    ]
    plans, missing_engines = zip(*map(runnable_here, legal), strict=True)
    left_out = [
        "; ".join(filter(None, (left_for_want_of_data(ways), missing)))
        for ways, missing in zip(legal, missing_engines, strict=True)
    ]
    finals = [output / bundle_name(name, profile.name) for profile in profiles]
    refuse_existing(finals, overwrite=overwrite)

    with workspace(output) as folder:
        progress.start(INTAKE, 3)
        for profile, ways in zip(profiles, plans, strict=True):
            progress.start(profile.name, sum(len(plan.steps) for plan in ways) + 2)
        progress.stage(INTAKE, "open")
        source = open_source(path, folder, with_shapes(intake, shapes))
        try:
            specs = _resolved(source, [ways[0] for ways in plans])
            reading = partial(progress.stage, INTAKE)
            samples = _samples(calibration, specs, folder, preprocessing, reading)
            wishes = Wishes(
                evaluation=_samples(
                    evaluation, specs, folder, preprocessing, reading, labelled=True
                ),
                metric=metric,
                max_drop=max_drop,
                prefer=prefer,
            )
            frame = image_frame(specs, preprocessing, samples, wishes.evaluation)
            feeds = golden_feeds(specs, samples)
            progress.stage(INTAKE, "convert")
            converted, said = source.convert(folder / f"{name}.onnx")
            progress.stage(INTAKE, "ask the source")
            answered = source.answer(feeds)
            said = (f"guards of its process: {', '.join(source.guards) or 'none'}", *said)
            golden = Golden(
                feeds=feeds,
                source=answered,
                origin=origin_of(samples),
                rounding=source.rounding,
            )
            origin = SourceModel(
                name=path.name,
                format=source.format,
                sha256=tree_sha256(source.path, source.beside),
                size=tree_size(source.path, source.beside),
                framework=source.framework,
            )
        finally:
            source.close()
        progress.finish(INTAKE, origin.framework)

        stages_folder = folder / "stages"
        stages_folder.mkdir()
        calibrator = None
        if samples is not None:
            calibrator = Calibrator(samples, folder / "calibration", user_cache())
        runner = StageRunner(
            stages_folder, name, golden.feeds, golden.source, calibrator, source.rounding
        )
        gate = make_gate(wishes, samples, specs)
        results, finished = [], []
        for profile, ways, missing, final in zip(profiles, plans, left_out, finals, strict=True):
            say = partial(progress.stage, profile.name)
            choice = make_chooser(
                plans=ways,
                converted=converted,
                runner=runner,
                calibrator=calibrator,
                gate=gate,
                wishes=wishes,
                feeds=golden.feeds,
                say=say,
            ).choose(ways)
            stages, plan, chosen = choice.chosen.stages, choice.chosen.plan, record(choice, gate)
            say("bundle")
            bundle = folder / final.name
            bundle.mkdir()
            manifest = write_bundle(
                bundle,
                plan=plan,
                release=release,
                source=origin,
                model=stages[-1].result.model,
                shipped=stages[-1].answers,
                sensitivity=sensitivity(
                    stages[-1].result.model.path,
                    golden.feeds,
                    stages[-1].answers,
                    plan.engine,
                    # A device runs an ONNX model that came in fewer bits in them, and its kernels round elsewhere.
                    known=golden.rounding if origin.format == "onnx" else {},
                ),
                golden=golden,
                stages=[s.record for s in stages],
                precision=chosen,
                log=build_log(
                    release,
                    profile.name,
                    chosen,
                    origin,
                    golden.origin,
                    said,
                    choice.chosen.warnings,
                    stages,
                ),
                frame=frame,
            )
            say("self-test")
            require_self_test(bundle, manifest.target.name)
            if key is not None:
                sign_bundle(bundle, key)
            result = _result(choice, final, origin, chosen, key, missing)
            progress.finish(profile.name, result.precision)
            results.append(result)
            finished.append((bundle, final))
        publish(finished, aside=folder)
    return tuple(results)


def _profiles(targets: Sequence[str | TargetProfile]) -> list[TargetProfile]:
    profiles = [t if isinstance(t, TargetProfile) else load_target(str(t)) for t in targets]
    if not profiles:
        raise UsageError("no target was given", "name one or more with -t (edgepack targets list)")
    names = [p.name for p in profiles]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UsageError(f"target given twice: {', '.join(twice)}", "name each target once")
    return profiles


def _resolved(source: Source, plans: Sequence[Plan]) -> tuple[TensorSpec, ...]:
    """The source's inputs at the sizes that every plan can take."""
    resolved = []
    for plan in plans:
        try:
            resolved.append(plan.shapes.resolve(source.inputs))
        except ShapeError as error:
            raise ShapeError(f"{plan.profile.name}: {error.cause}", error.fix) from error
    # Targets that fix a dimension all fix it alike (the request is one); one that leaves it free takes any size.
    return min(resolved, key=lambda specs: sum(len(s.free_dims) for s in specs))


def _samples(
    data: object,
    specs: Sequence[TensorSpec],
    folder: Path,
    preprocessing: object,
    say: Callable[[str], None],
    *,
    labelled: bool = False,
) -> Samples | None:
    if data is None:
        return None
    return open_samples(
        data,
        specs=specs,
        folder=folder / "samples",
        preprocessing=preprocessing if holds_images(data) else None,
        labelled=labelled,
        say=say,
    )


def _result(
    choice: Choice,
    final: Path,
    source: SourceModel,
    chosen: ChosenPrecision,
    key: SigningKey | None,
    left_out: str,
) -> BuildResult:
    plan, stages = choice.chosen.plan, choice.chosen.stages
    return BuildResult(
        target=plan.profile.name,
        bundle=final,
        precision=plan.precision,
        because=choice.because,
        size_before=source.size,
        size_after=stages[-1].result.model.size_bytes,
        worst=tuple((s.name, max(p.max_abs for p in s.parity)) for s in stages),
        accuracy=chosen,
        timings=choice.timings,
        untimed=choice.untimed,
        next=plan.profile.next,
        signed_by=key.id if key is not None else None,
        left_out=left_out,
    )
