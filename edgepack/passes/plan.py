"""The steps one target needs, checked before any work starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepack.artifact import Dim, Format
from edgepack.errors import UsageError
from edgepack.passes.registry import make_step
from edgepack.passes.shapes import Shapes
from edgepack.passes.step import Step
from edgepack.runtimes import Provider
from edgepack.targets import Precision, PrecisionSpec, TargetProfile, Tolerance, precision_of


@dataclass(frozen=True, kw_only=True)
class ShapeRequest:
    """What the user said of shapes: `--shape` by input, and `--batch` (None: the profile's; "free": leave it open)."""

    shapes: tuple[tuple[str, tuple[Dim, ...]], ...] = ()
    batch: int | str | None = None

    @staticmethod
    def of(shapes: Mapping[str, Sequence[Dim]] | None, batch: int | str | None) -> ShapeRequest:
        """The request in the arguments of `build` and `convert`."""
        fixed = tuple((name, tuple(sizes)) for name, sizes in (shapes or {}).items())
        return ShapeRequest(shapes=fixed, batch=batch)

    def applied_to(self, step: Shapes, *, static: bool) -> Shapes:
        """The profile's shapes step with the user's wishes in it."""
        batch = step.batch
        if self.batch is not None:
            batch = self.batch if isinstance(self.batch, int) else None
        asked = isinstance(self.batch, int)
        return dataclasses.replace(
            step, batch=batch, batch_asked=asked, fixed=self.shapes, static=static
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be done for one target, and how far each stage may be off.

    Attributes:
        way: the precision, or another way to it, by the profile's name.
        reason: why this precision.
    """

    profile: TargetProfile
    way: str
    requested: str
    reason: str
    steps: tuple[Step, ...]
    spec: PrecisionSpec
    base: Tolerance

    @property
    def precision(self) -> Precision:
        """What the way leads to."""
        return precision_of(self.way)

    @property
    def shapes(self) -> Shapes:
        """The plan's shapes step (a profile without one leaves shapes as they are)."""
        return next((s for s in self.steps if isinstance(s, Shapes)), Shapes(batch=None))

    @property
    def engine(self) -> Provider | None:
        """The provider with a runtime of its own that leads on the device, whose answers are what counts; None: ONNX Runtime's count."""
        first = self.profile.runtime_for(self.way).providers[0]
        return first if first.package else None

    @property
    def loses(self) -> bool:
        """A step makes another precision of float32."""
        return any(step.precision is not None for step in self.steps)

    @property
    def needs_calibration(self) -> bool:
        """A step cannot run without representative inputs."""
        return any(step.needs_calibration for step in self.steps)

    @property
    def needs_measuring(self) -> bool:
        """A step loses so much that nothing may be written unmeasured."""
        return any(step.needs_measuring for step in self.steps)


def make_plans(
    profile: TargetProfile,
    *,
    requested: str,
    calibrated: bool,
    measurable: bool = False,
    shapes: ShapeRequest,
    atol: float | None,
    rtol: float | None,
) -> tuple[Plan, ...]:
    """A plan for each precision that comes into question, the profile's favourite first.

    Args:
        requested: "auto" or a precision.
        calibrated: there are calibration data, on which accuracy can be measured, too.
        measurable: there are data to measure accuracy on.
        atol, rtol: replace the profile's parity tolerance in every stage.

    Raises:
        UsageError: the precision is not legal on this target, or needs data that were not given.
    """
    plans = [
        _plan(profile, way, requested, because, shapes, atol, rtol)
        for way, because in _legal(profile, requested)
    ]
    possible = tuple(
        p
        for p in plans
        if calibrated or not (p.needs_calibration or (p.needs_measuring and not measurable))
    )
    if not possible:
        raise _without_data(plans[0])
    return possible


def left_for_want_of_data(plans: Sequence[Plan]) -> str:
    """What `auto` did not come to for want of data, in words; empty where it came to all.

    Args: plans: all that `make_plans` gave for one target.
    """
    ways = {plan.way for plan in plans}
    candidates = plans[0].profile.auto.candidates if plans[0].requested == "auto" else ()
    missing = [c.precision for c in candidates if c.precision not in ways]
    if not missing:
        return ""
    verb = "was" if len(missing) == 1 else "were"
    return f"{', '.join(missing)} {verb} not tried: give --calibration DATA, some 100 real inputs"


def _without_data(plan: Plan) -> UsageError:
    exact = "use --precision fp32, or one of fp16 and fp16-weights that the target has"
    if plan.needs_calibration:
        return UsageError(
            f"{plan.profile.name}: {plan.precision} needs calibration data, and none were given",
            f"give --calibration FILE.npz with some 100 real inputs, or {exact}",
        )
    return UsageError(
        f"{plan.profile.name}: {plan.precision} loses accuracy, and there are no data to measure how much",
        f"give --eval DATA with labels, or --calibration FILE.npz with some 100 real inputs, or {exact}",
    )


def _plan(
    profile: TargetProfile,
    way: str,
    requested: str,
    reason: str,
    shapes: ShapeRequest,
    atol: float | None,
    rtol: float | None,
) -> Plan:
    spec = profile.precisions[way]
    steps = tuple(make_step(s.name, s.options) for s in (*profile.steps, *spec.steps))
    steps = tuple(
        shapes.applied_to(s, static=profile.static_shapes) if isinstance(s, Shapes) else s
        for s in steps
    )
    base = profile.precisions.get("fp32", spec)
    return Plan(
        profile=profile,
        way=way,
        requested=requested,
        reason=reason,
        steps=steps,
        spec=spec.model_copy(update={"parity": _override(spec.parity, atol, rtol)}),
        base=_override(base.parity, atol, rtol),
    )


def check_chain(steps: Sequence[Step], precision: str) -> None:
    """Raises ValueError: a step does not take what the one before it gives, or the steps do not end in `precision`."""
    form, reached = Format.ONNX, "fp32"
    for step in steps:
        if step.accepts != form:
            raise ValueError(f"{step.name} takes {step.accepts.value}, but gets {form.value}")
        if reached.endswith("-weights") and step.produces is not Format.ONNX:
            raise ValueError(f"{step.name} would write the weights of {reached} out in float32")
        form = step.produces
        reached = step.precision or reached
    if reached != precision:
        raise ValueError(f"the steps end in {reached}")


def _legal(profile: TargetProfile, requested: str) -> list[tuple[str, str]]:
    """The ways to the precision asked for, each with a reason."""
    if requested == "auto":
        return [(c.precision, c.because) for c in profile.auto.candidates]
    ways = [w for w in profile.precisions if requested in (w, precision_of(w))]
    if ways:
        return [(way, "asked for with --precision") for way in ways]
    raise UsageError(
        f"{profile.name}: precision {requested!r} is not legal there",
        f"use one of: auto, {', '.join(profile.precisions)}",
    )


def _override(tolerance: Tolerance, atol: float | None, rtol: float | None) -> Tolerance:
    changes: dict[str, float] = {}
    if atol is not None:
        changes["atol"] = atol
    if rtol is not None:
        changes["rtol"] = rtol
    if changes:
        changes |= {"range": 0.0, "cosine": -1.0}
    return tolerance.model_copy(update=changes)
