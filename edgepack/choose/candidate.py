"""A way to build a model for a target, built and measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.artifact import Format, ModelFile
from edgepack.choose.gate import Measured
from edgepack.errors import EdgepackError
from edgepack.passes.plan import Plan
from edgepack.stages import Stage


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plan, and what came of it.

    Attributes:
        options: what differs from the profile's recipe.
        stages: empty where it could not be built.
        measured: None where nothing was lost that could be measured (fp32), no data were there, or it was not built.
        error: why it could not be built.
        warnings: what the device's rules have against the graph without forbidding it.
    """

    plan: Plan
    options: Mapping[str, Any]
    stages: Sequence[Stage]
    measured: Measured | None
    error: EdgepackError | None = None
    warnings: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        """It was built and is as good as it has to be."""
        return bool(self.stages) and (self.measured is None or self.measured.holds)

    @property
    def failure(self) -> str:
        """Why it could not be built; empty otherwise."""
        return self.error.cause if self.error else ""

    @property
    def model(self) -> ModelFile:
        """What would be shipped."""
        return self.stages[-1].result.model

    @property
    def graph(self) -> ModelFile:
        """The last stage's ONNX graph, before another form is made of it."""
        return last_graph(self.stages)

    @property
    def float_graph(self) -> ModelFile:
        """The graph from which the precision's own steps began."""
        return float_stage(self.plan, self.stages).result.model

    @property
    def kept_float(self) -> tuple[str, ...]:
        """Nodes that the search left in float."""
        return tuple(self.options.get("float_nodes", ()))


def last_graph(stages: Sequence[Stage]) -> ModelFile:
    """The last ONNX graph among the stages' models."""
    models = [s.result.model for s in stages]
    return next(m for m in reversed(models) if m.format is Format.ONNX)


def float_stage(plan: Plan, stages: Sequence[Stage]) -> Stage:
    """The stage before the one that changes the precision; the last ONNX graph's where none does."""
    # stages[0] is the conversion; stages[i + 1] is what steps[i] made.
    for i, step in enumerate(plan.steps):
        if step.precision is not None or step.produces is not Format.ONNX:
            return stages[i]
    return stages[-1]


def with_options(plan: Plan, options: Mapping[str, Any]) -> Plan:
    """The plan, with these options in the step that gives it its precision."""
    steps = tuple(
        dataclasses.replace(step, **options) if step.precision == plan.precision else step  # type: ignore[type-var]
        for step in plan.steps
    )
    return dataclasses.replace(plan, steps=steps)
