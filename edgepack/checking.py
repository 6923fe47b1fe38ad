"""Is a model legal on its targets, and who would run which part of it: before anything is built."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack import onnxfile, ortfile
from edgepack.artifact import Dim, Format, ModelFile, TensorSpec
from edgepack.bundle.manifest import MANIFEST
from edgepack.bundle.open import check_files, load_manifest
from edgepack.cache import user_cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.errors import UsageError
from edgepack.intake.request import IntakeRequest, with_shapes
from edgepack.intake.source import open_source
from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView
from edgepack.legality.macs import int8_mac_share, total_macs, uncounted
from edgepack.legality.opinion import Verdict, ask
from edgepack.legality.partition import Part, partition, tables_of
from edgepack.legality.registry import rules_for
from edgepack.legality.require import findings_in
from edgepack.legality.rules.quantization import Int8Share
from edgepack.legality.subject import Preparation, Subject, prospect
from edgepack.passes.plan import Plan, ShapeRequest, make_plans
from edgepack.progress import Progress
from edgepack.samples.opening import open_samples, require_exists
from edgepack.targets import TargetProfile, load_target, precision_of

_LANE = "intake"


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """One target's verdict.

    Attributes:
        steps: what the model went through before it was checked; empty for a bundle, which is checked as it is.
        rest: steps of a build that come after the graph that was checked; what they fuse, providers may look at otherwise.
        note: what could not be done first, and why; empty otherwise.
        operators: nodes of the graph that was checked.
        macs: multiply-accumulates of one run; a free dimension counts as 1.
        uncounted: nodes whose multiply-accumulates are not known.
        int8_mac_share: the share of them done in 8-bit integers, 0–1.
        parts: what each provider takes, in the order in which they are asked.
        opinions: of parsers that were asked besides.
    """

    target: str
    precision: str
    steps: tuple[str, ...]
    rest: tuple[str, ...]
    note: str
    opset: int
    operators: int
    macs: int
    uncounted: int
    int8_mac_share: float
    findings: tuple[Finding, ...]
    parts: tuple[Part, ...]
    opinions: tuple[Verdict, ...]

    @property
    def legal(self) -> bool:
        """Nothing was found that is an error."""
        return not any(f.severity == "error" for f in self.findings)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        data = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        data |= {
            name: [x.as_json() for x in data[name]] for name in ("findings", "parts", "opinions")
        }
        return {**data, "steps": list(self.steps), "rest": list(self.rest), "legal": self.legal}


def check(
    model: str | Path,
    *,
    targets: Sequence[str | TargetProfile] = (),
    precision: str = "auto",
    calibration: object = None,
    preprocessing: object = None,
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    batch: int | str | None = None,
    intake: IntakeRequest | None = None,
    second_opinion: bool = False,
    progress: Progress | None = None,
) -> tuple[CheckResult, ...]:
    """What of `model` each target does not take, and which provider would run which part. Nothing is written.

    Args:
        model: any model that `build` takes, or a bundle's folder.
        targets: names, YAML files or profiles; for a bundle its own target otherwise.
        precision: "auto" checks the first precision that a build could make.
        calibration, preprocessing, shapes, batch, intake: as for `build`. Without calibration data the float graph stands in for the
            INT8 one.
        second_opinion: ask the real parser of the target's family too, where there is one (an extra of its own).

    Raises:
        EdgepackError: the model cannot be opened, a target is not known; EnvironmentMissing: the parser is not installed.
            What a target does not take is a finding, not an exception.
    """
    path = Path(model)
    progress = progress or Progress()
    if (path / MANIFEST).is_file():
        return _check_bundle(path, _profiles(targets), second_opinion)
    profiles = _profiles(targets)
    if not profiles:
        raise UsageError("no target was given", "name one or more with -t (edgepack targets list)")
    if second_opinion:
        _require_parser(profiles)
    require_exists(calibration)
    request = ShapeRequest.of(shapes, batch)
    plans = [_plans(p, precision, request, calibrated=calibration is not None) for p in profiles]
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        folder = Path(scratch)
        progress.start(_LANE, 2)
        progress.stage(_LANE, "open")
        source = open_source(path, folder, with_shapes(intake, shapes))
        try:
            calibrator = None
            if calibration is not None:
                samples = open_samples(
                    calibration,
                    specs=_closed(source.inputs, [ways[0] for ways in plans]),
                    folder=folder / "samples",
                    preprocessing=preprocessing,
                )
                calibrator = Calibrator(samples, folder / "calibration", user_cache())
            progress.stage(_LANE, "convert")
            converted, _ = source.convert(folder / f"{path.stem}.onnx")
            framework = source.framework
        finally:
            source.close()
        progress.finish(_LANE, framework)
        preparation = Preparation(folder / "steps", path.stem, calibrator)
        results = []
        for ways in plans:
            name = ways[0].profile.name
            progress.start(name, 1)
            progress.stage(name, "check")
            plan, subject = _first_that_can_be_made(ways, preparation, converted)
            results.append(_result(plan.profile, plan.way, subject, second_opinion))
            progress.finish(name, plan.precision)
    return tuple(results)


def _check_bundle(
    path: Path, profiles: Sequence[TargetProfile], second_opinion: bool
) -> tuple[CheckResult, ...]:
    """The model in a bundle as it is, for its own target or those asked for."""
    manifest = load_manifest(path)
    check_files(path, manifest)
    place = path / manifest.model.path
    if manifest.model.format == "ort":
        proto = ortfile.read(place)
        model = dataclasses.replace(onnxfile.wrap(proto, place), format=Format.ORT, beside=())
    else:
        model = onnxfile.wrap_file(place)
    wanted = profiles or (load_target(manifest.target.name),)
    if second_opinion:
        _require_parser(wanted)
    subject = Subject(model=model, steps=())
    return tuple(_result(p, manifest.model.precision, subject, second_opinion) for p in wanted)


def _result(
    profile: TargetProfile, way: str, subject: Subject, second_opinion: bool
) -> CheckResult:
    graph, precision = GraphView.of(subject.model), precision_of(way)
    tables = tables_of(profile, way if way in profile.precisions else "")
    shares = [r for r in rules_for(profile, "int8") if isinstance(r, Int8Share)]
    float_outputs = shares[0].float_outputs if shares else Int8Share().float_outputs
    hope = "" if subject.skipped is None else prospect(subject.skipped, graph)
    opinions: tuple[Verdict, ...] = ()
    if second_opinion:
        known = [t.second_opinion for t in tables.values() if t is not None and t.second_opinion]
        opinions = tuple(ask(opinion, subject.model) for opinion in known)
    return CheckResult(
        target=profile.name,
        precision=precision,
        steps=subject.steps,
        rest=subject.rest,
        note="; ".join(x for x in (subject.note, hope) if x),
        opset=graph.opset,
        operators=len(graph.nodes),
        macs=total_macs(graph),
        uncounted=len(uncounted(graph)),
        int8_mac_share=int8_mac_share(graph, float_outputs=float_outputs),
        findings=(*subject.stopped, *findings_in(graph, profile, precision)),
        parts=partition(graph, tables),
        opinions=opinions,
    )


def _require_parser(profiles: Sequence[TargetProfile]) -> None:
    """Raises UsageError: a second opinion is asked for, and there is nobody to ask."""
    tables = [t for p in profiles for t in tables_of(p).values()]
    if not any(t is not None and t.second_opinion for t in tables):
        names = ", ".join(p.name for p in profiles)
        raise UsageError(
            f"there is no parser to ask for a second opinion on {names}",
            "check without --second-opinion",
        )


def _first_that_can_be_made(
    ways: Sequence[Plan], preparation: Preparation, converted: ModelFile
) -> tuple[Plan, Subject]:
    """The first whose steps this model lets be taken, as a build passes over the others; the first of all if there is none."""
    subjects = []
    for plan in ways:
        subjects.append(preparation.subject(plan, converted))
        if not subjects[-1].stopped:
            return plan, subjects[-1]
    return ways[0], subjects[0]


def _plans(
    profile: TargetProfile, precision: str, request: ShapeRequest, *, calibrated: bool
) -> Sequence[Plan]:
    """The ways a build would try, in its order; of those that need data, where there are none, only if nothing else was asked for."""
    plans = make_plans(
        profile, requested=precision, calibrated=True, shapes=request, atol=None, rtol=None
    )
    possible = [p for p in plans if calibrated or not (p.needs_calibration or p.needs_measuring)]
    return possible or plans[:1]


def _closed(inputs: tuple[TensorSpec, ...], plans: Sequence[Plan]) -> tuple[TensorSpec, ...]:
    """The inputs at the sizes they will have; what a target does not take of them is a finding later."""
    resolved = [dataclasses.replace(p.shapes, static=False).resolve(inputs) for p in plans]
    return min(resolved, key=lambda specs: sum(len(s.free_dims) for s in specs))


def _profiles(targets: Sequence[str | TargetProfile]) -> list[TargetProfile]:
    return [t if isinstance(t, TargetProfile) else load_target(str(t)) for t in targets]
