"""A choice for the manifest: without timings, so that the same input gives the same bytes."""

from __future__ import annotations

import math

from edgepack.bundle.manifest import Attempt, ChosenPrecision, GateRecord
from edgepack.choose.candidate import Candidate
from edgepack.choose.choice import Choice
from edgepack.choose.gate import Gate


def record(choice: Choice, gate: Gate | None) -> ChosenPrecision:
    """What was asked for, chosen and tried."""
    plan = choice.chosen.plan
    return ChosenPrecision(
        requested=plan.requested,
        chosen=plan.precision,
        because=choice.because,
        gate=None
        if gate is None
        else GateRecord(
            metric=gate.name,
            judged_by=dict(gate.judged_by),
            unit=gate.unit,
            max_drop=gate.max_drop,
            samples=gate.samples,
            data=gate.origin,
            sha256=gate.digest,
            reference=_reference(choice, gate),
        ),
        tried=tuple(_attempt(c, shipped=c is choice.chosen) for c in choice.trail),
    )


def _reference(choice: Choice, gate: Gate) -> float | None:
    """The float model's own score; of ways with several float graphs, that of the one that is shipped, or else the first."""
    measured = [c.measured for c in (choice.chosen, *choice.trail) if c.measured is not None]
    return _number(measured[0].reference) if measured and gate.metric is not None else None


def _attempt(candidate: Candidate, *, shipped: bool) -> Attempt:
    measured = candidate.measured
    return Attempt(
        precision=candidate.plan.way,
        options={k: list(v) if isinstance(v, tuple) else v for k, v in candidate.options.items()},
        size=candidate.model.size_bytes if candidate.stages else 0,
        score=_number(measured.score) if measured else None,
        drop=_number(measured.drop) if measured else None,
        holds=candidate.holds,
        failure=candidate.failure,
        shipped=shipped,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
