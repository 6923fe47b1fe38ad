"""What becomes of a recipe whose first attempt cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from edgepack.choose.choice import Chooser
from edgepack.choose.gate import Gate, Measured
from edgepack.errors import EdgepackError, ParityError, StepError
from edgepack.passes.int8 import Int8
from edgepack.passes.plan import Plan
from edgepack.stages import Stage
from tests.choose.test_search import PLAN, a_stage


class FakeGate(Gate):
    """Lets everything through."""

    def measured(self, model: Any, float_model: Any, engine: object = None) -> Measured:
        return Measured(score=100.0, reference=100.0, drop=0.0, holds=True)


def chooser(error: EdgepackError) -> Chooser:
    """Its plain recipe fails with `error`; every other way works."""

    def run(plan: Plan) -> tuple[Sequence[Stage], Sequence[str]]:
        (step,) = [s for s in plan.steps if isinstance(s, Int8)]
        if step.method == "minmax":
            raise error
        return [a_stage()] * (len(plan.steps) + 1), []

    gate = FakeGate(
        metric=None, max_drop=1.0, feeds=lambda: iter(()), samples=1, origin="", digest="0" * 64
    )
    return Chooser(
        run=run,
        rank=lambda candidate: (),
        cost=lambda candidate: {},
        gate=gate,
        race=None,
        prefer="speed",
        say=lambda text: None,
    )


def test_answers_too_far_off_lead_to_other_ranges() -> None:
    choice = chooser(ParityError("far off", "mend it")).choose([PLAN])
    assert choice.chosen.options == {"method": "moving_average"}
    assert [c.failure for c in choice.trail] == ["far off", ""]


def test_what_cannot_be_built_is_not_tried_in_other_ways() -> None:
    with pytest.raises(StepError, match="cannot"):
        chooser(StepError("cannot", "mend it")).choose([PLAN])
