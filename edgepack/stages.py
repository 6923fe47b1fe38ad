"""Run a target's steps, each proved on the golden inputs; what several targets share runs once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.artifact import ModelFile
from edgepack.bundle.manifest import StageRecord
from edgepack.calibrate.calibrator import Calibrator
from edgepack.passes.plan import Plan
from edgepack.passes.step import Step, StepContext, StepResult, options_of
from edgepack.prove.engine import Answers, Tensors, answers
from edgepack.prove.parity import Parity, compare, require
from edgepack.runtimes import Provider
from edgepack.targets import Tolerance


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A step that was run for a target and what came of it."""

    name: str
    result: StepResult
    answers: Sequence[Tensors]
    parity: tuple[Parity, ...]
    record: StageRecord


class StageRunner:
    """Runs steps on models and remembers: an equal step on an equal model runs once in a build."""

    def __init__(
        self,
        folder: Path,
        name: str,
        feeds: Sequence[Tensors],
        source: Sequence[Tensors],
        calibrator: Calibrator | None,
        rounding: Mapping[str, float],
    ) -> None:
        """Args:
        folder: where results lie; it grows one folder a stage.
        name: file name, without suffix, of the models.
        source: what the source framework answers to `feeds`.
        """
        self._folder = folder
        self._name = name
        self._feeds = feeds
        self._source = source
        self._rounding = rounding
        self._calibrator = calibrator
        self._begun = 0
        self._results: dict[tuple[str, Step], StepResult] = {}
        self._answers: dict[tuple[str, str], Answers] = {}

    def run(
        self,
        plan: Plan,
        converted: ModelFile,
        say: Callable[[str], None] = lambda step: None,
        *,
        prove_all: bool = True,
    ) -> list[Stage]:
        """All stages of a plan, the conversion first; `say` is told of each step as it begins.

        Args: prove_all: False lets stages below float32 be as far off as they are, to look for what is wrong with them.

        Raises:
            ParityError: a stage is further from the source framework than its precision allows.
            StepError, ShapeError: a step cannot be done.
        """
        tolerance, precision = plan.base, "fp32"
        engine: Provider | None = None
        start = StepResult(model=converted, changed=True, facts={"opset": converted.opset})
        stages = [self._prove(plan, "convert", {}, start, tolerance, precision, engine)]
        model = converted
        for step in plan.steps:
            say(step.name)
            if step.precision is not None:
                tolerance, precision = plan.spec.parity, step.precision
            if step.precision is not None or step is plan.steps[-1]:
                engine = plan.engine
            result = self._apply(step, model)
            stages.append(
                self._prove(
                    plan,
                    step.name,
                    options_of(step),
                    result,
                    tolerance,
                    precision,
                    engine,
                    let_through=not prove_all and precision != "fp32",
                )
            )
            model = result.model
        return stages

    def _apply(self, step: Step, model: ModelFile) -> StepResult:
        key = (model.sha256, step)
        if key not in self._results:
            folder = self._folder / f"{self._begun:02d}-{step.name}"
            folder.mkdir()
            self._begun += 1
            context = StepContext(folder=folder, name=self._name, calibrator=self._calibrator)
            self._results[key] = step.run(model, context)
        return self._results[key]

    def _answer(self, model: ModelFile, engine: Provider | None) -> Answers:
        key = (model.sha256, engine.model_dump_json() if engine else "")
        if key not in self._answers:
            self._answers[key] = answers(model.path, self._feeds, engine=engine)
        return self._answers[key]

    def _prove(
        self,
        plan: Plan,
        name: str,
        options: dict[str, Any],
        result: StepResult,
        tolerance: Tolerance,
        precision: str,
        engine: Provider | None,
        *,
        let_through: bool = False,
    ) -> Stage:
        given = self._answer(result.model, engine)
        parity = compare(self._source, given, tolerance, self._rounding)
        if not let_through:
            require(parity, stage=name, where=plan.profile.name, precision=precision)
        record = StageRecord(
            step=name,
            options=options,
            changed=result.changed,
            facts=dict(result.facts),
            sha256=result.model.sha256,
            size=result.model.size_bytes,
            parity=tuple(p.as_json() for p in parity),
        )
        return Stage(name=name, result=result, answers=given, parity=parity, record=record)
