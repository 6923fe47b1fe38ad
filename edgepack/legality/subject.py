"""The graph that is held against a target's rules: the model after the target's own steps, as far as they can be taken."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.artifact import Format, ModelFile
from edgepack.calibrate.calibrator import Calibrator
from edgepack.errors import StepError
from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView
from edgepack.legality.macs import node_macs
from edgepack.passes.plan import Plan
from edgepack.passes.shapes import Shapes
from edgepack.passes.step import Step, StepContext, options_of


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is checked.

    Attributes:
        model: an ONNX graph.
        steps: names of the steps it went through.
        rest: names of those it did not: what comes after the last ONNX graph, or after a step that could not be taken.
        skipped: a quantizing step for which calibration data were missing.
        stopped: a step that could not be taken, as a finding.
        note: what was not done, and why; empty where all was done.
    """

    model: ModelFile
    steps: tuple[str, ...]
    rest: tuple[str, ...] = ()
    skipped: Step | None = None
    stopped: tuple[Finding, ...] = ()
    note: str = ""


class Preparation:
    """Takes the steps of targets' plans; an equal step on an equal model is taken once."""

    def __init__(self, folder: Path, name: str, calibrator: Calibrator | None) -> None:
        """Args: folder: where results lie; it grows one folder a step. name: file name, without suffix, of the models."""
        self._folder = folder
        self._name = name
        self._calibrator = calibrator
        self._made: dict[tuple[str, Step], ModelFile] = {}
        self._begun = 0

    def subject(self, plan: Plan, converted: ModelFile) -> Subject:
        """The model after the plan's steps up to the one that leaves ONNX, or that needs calibration data where there are none."""
        model, taken = converted, list[str]()
        for step in map(_open_shapes, plan.steps):
            rest = plan.steps[len(taken) :]
            if step.produces is not Format.ONNX:
                break
            if step.needs_calibration and self._calibrator is None:
                note = f"{step.name} was not applied (no calibration data): the float graph is checked in its stead"
                return Subject(
                    model=model, steps=tuple(taken), rest=_names(rest), skipped=step, note=note
                )
            try:
                model = self._take(step, model)
            except StepError as error:
                stopped = Finding(
                    rule=step.name,
                    severity="error",
                    cause=f"the step {step.name} cannot be taken: {error.cause}",
                    fix=error.fix,
                )
                note = f"the graph before {step.name} is checked"
                return Subject(
                    model=model,
                    steps=tuple(taken),
                    rest=_names(rest),
                    stopped=(stopped,),
                    note=note,
                )
            taken.append(step.name)
        return Subject(model=model, steps=tuple(taken), rest=_names(plan.steps[len(taken) :]))

    def _take(self, step: Step, model: ModelFile) -> ModelFile:
        key = (model.sha256, step)
        if key not in self._made:
            folder = self._folder / f"{self._begun:02d}-{step.name}"
            folder.mkdir(parents=True)
            self._begun += 1
            context = StepContext(folder=folder, name=self._name, calibrator=self._calibrator)
            self._made[key] = step.run(model, context).model
        return self._made[key]


def _names(steps: Sequence[Step]) -> tuple[str, ...]:
    return tuple(s.name for s in steps)


def _open_shapes(step: Step) -> Step:
    """Free dimensions are left to the rule `static_shapes`, which names them all."""
    return dataclasses.replace(step, static=False) if isinstance(step, Shapes) else step


def prospect(step: Step, graph: GraphView) -> str:
    """What a quantizing step would meet in a float graph: how much of the arithmetic it can take, and what it leaves."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    left = set(options_of(step).get("float_operators") or ())
    quantizable = (set(QDQRegistry) | set(QLinearOpsRegistry)) - left
    macs = [(n, node_macs(n, graph) or 0) for n in graph.nodes]
    total = sum(m for _, m in macs)
    float_macs: dict[str, int] = {}
    for node, count in macs:
        if count and node.operator not in quantizable:
            float_macs[node.operator] = float_macs.get(node.operator, 0) + count
    share = 1 - sum(float_macs.values()) / total if total else 0.0
    heavy = ", ".join(f"{op} ({n / total:.0%})" for op, n in float_macs.items())
    said = f"{step.name} could take {share:.0%} of the multiply-accumulates"
    return said + (f"; in float stay {heavy}" if heavy else "")
