"""One model in, one proved bundle out for each target. Read `build` from top to bottom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepack.artifact import Dim, TensorSpec, tree_sha256, tree_size
from edgepack.buildlog import build_log
from edgepack.bundle.manifest import Manifest, Release, SourceModel
from edgepack.bundle.verify import self_test
from edgepack.bundle.write import Golden, write_bundle
from edgepack.cache import user_cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.errors import BundleError, ShapeError, UsageError
from edgepack.intake.request import IntakeRequest, with_shapes
from edgepack.intake.source import Source, open_source
from edgepack.names import app_name, bundle_name
from edgepack.passes.plan import Plan, ShapeRequest, make_plan
from edgepack.progress import Progress
from edgepack.prove.calibration import as_calibration
from edgepack.prove.golden import golden_feeds
from edgepack.stages import Stage, StageRunner
from edgepack.targets import TargetProfile, load_target
from edgepack.workspace import publish, refuse_existing, workspace

#: The lane in which what all targets share is shown.
INTAKE = "intake"


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """One finished bundle.

    Attributes:
        size_before, size_after: bytes of the user's model and of the shipped model file.
        worst: (stage, L∞ distance from the source framework over all outputs and cases), in order.
    """

    target: str
    bundle: Path
    precision: str
    because: str
    size_before: int
    size_after: int
    worst: tuple[tuple[str, float], ...]
    next: str

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        data = asdict(self)
        data["bundle"] = str(self.bundle)
        data["worst"] = [{"stage": s, "max_abs": d} for s, d in self.worst]
        return data


def build(
    model: str | Path,
    *,
    targets: Sequence[str | TargetProfile],
    output_dir: str | Path = "dist",
    precision: str = "auto",
    calibration: object = None,
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    batch: int | str | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    intake: IntakeRequest | None = None,
    app: str | None = None,
    version: str = "0.0.0",
    release_seq: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[BuildResult, ...]:
    """Build one bundle per target from a trained model.

    Args:
        model: a .keras, .h5/.hdf5, SavedModel folder, .tflite, .onnx, frozen .pb, or TF 1 checkpoint.
        targets: names, YAML files, or profiles.
        precision: "auto", or "fp32", "fp16", "int8" for all targets.
        calibration: a .npz/.npy path, an array, or {input: array}; arrays are [N, …] in the model's own preprocessing.
        shapes: sizes by input, for free dimensions.
        batch: size of a free batch dimension (the profiles say 1), or "free" to leave it.
        atol, rtol: replace the profiles' parity tolerances, |a − b| ≤ atol + rtol·|b|.
        intake: which part of the model to take, and how; all of it otherwise.
        app: the name in the manifest and in folder names; the model's file name otherwise.

    Returns: one result per target, in the order asked for. Either all bundles are in place, or none is.

    Raises:
        EdgepackError: one of its kinds, with the remedy.
    """
    path, output = Path(model), Path(output_dir)
    progress = progress or Progress()
    name = app_name(app, path)
    release = Release(app=name, version=version, seq=release_seq)
    profiles = _profiles(targets)
    samples = as_calibration(calibration)
    request = ShapeRequest.of(shapes, batch)
    plans = [
        make_plan(
            profile,
            requested=precision,
            calibrated=samples is not None,
            shapes=request,
            atol=atol,
            rtol=rtol,
        )
        for profile in profiles
    ]
    finals = [output / bundle_name(name, profile.name) for profile in profiles]
    refuse_existing(finals, overwrite=overwrite)

    with workspace(output) as folder:
        progress.start(INTAKE, 3)
        for plan in plans:
            progress.start(plan.profile.name, len(plan.steps) + 2)
        progress.stage(INTAKE, "open")
        source = open_source(path, folder, with_shapes(intake, shapes))
        try:
            specs = _resolved(source, plans)
            if samples is not None:
                samples = samples.checked(source.inputs)
            feeds = golden_feeds(specs, samples)
            progress.stage(INTAKE, "convert")
            converted, said = source.convert(folder / f"{name}.onnx")
            progress.stage(INTAKE, "ask the source")
            golden = Golden(
                feeds=feeds,
                source=source.answer(feeds),
                origin="seeded noise" if samples is None else "calibration data",
                rounding=source.rounding,
            )
            record = SourceModel(
                name=path.name,
                format=source.format,
                sha256=tree_sha256(source.path, source.beside),
                size=tree_size(source.path, source.beside),
                framework=source.framework,
            )
        finally:
            source.close()
        progress.finish(INTAKE, record.framework)

        stages_folder = folder / "stages"
        stages_folder.mkdir()
        calibrator = None
        if samples is not None:
            calibrator = Calibrator(samples, folder / "calibration", user_cache())
        runner = StageRunner(
            stages_folder, name, golden.feeds, golden.source, calibrator, source.rounding
        )
        results, finished = [], []
        for plan, final in zip(plans, finals, strict=True):
            stages = runner.run(plan, converted, progress)
            progress.stage(plan.profile.name, "bundle")
            bundle = folder / final.name
            bundle.mkdir()
            manifest = write_bundle(
                bundle,
                plan=plan,
                release=release,
                source=record,
                model=stages[-1].result.model,
                shipped=stages[-1].answers,
                golden=golden,
                stages=[s.record for s in stages],
                log=build_log(release, plan, record, golden.origin, said, stages),
            )
            progress.stage(plan.profile.name, "self-test")
            _require_self_test(bundle, manifest)
            result = _result(plan, final, record, stages)
            progress.finish(plan.profile.name, result.precision)
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


def _require_self_test(bundle: Path, manifest: Manifest) -> None:
    report = self_test(bundle)
    if not report["passed"]:
        missed = [c for c in report["cases"] if not c["passed"]]
        raise BundleError(
            f"{manifest.target.name}: the finished bundle does not answer its golden tensors: {missed}",
            "this is a bug in edgepack; please report it with the model",
        )


def _result(plan: Plan, final: Path, source: SourceModel, stages: Sequence[Stage]) -> BuildResult:
    return BuildResult(
        target=plan.profile.name,
        bundle=final,
        precision=plan.precision,
        because=plan.reason,
        size_before=source.size,
        size_after=stages[-1].result.model.size_bytes,
        worst=tuple((s.name, max(p.max_abs for p in s.parity)) for s in stages),
        next=plan.profile.next,
    )
