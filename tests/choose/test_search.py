"""The search on made-up candidates whose accuracy is known beforehand; no model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from edgepack.artifact import Format, ModelFile
from edgepack.bundle.manifest import StageRecord
from edgepack.choose.candidate import Candidate
from edgepack.choose.gate import Measured
from edgepack.choose.search import MOST_ATTEMPTS, Search
from edgepack.errors import ParityError, StepError
from edgepack.passes.plan import ShapeRequest, make_plans
from edgepack.passes.step import StepResult
from edgepack.stages import Stage
from edgepack.targets import load_target
from tests.conftest import ROOT

(PLAN,) = make_plans(
    load_target("android"),
    requested="int8",
    calibrated=True,
    shapes=ShapeRequest(),
    atol=None,
    rtol=None,
)


def a_stage() -> Stage:
    model = ModelFile(path=ROOT / "no.onnx", format=Format.ONNX, inputs=(), outputs=())
    record = StageRecord(
        step="x", options={}, changed=True, facts={}, sha256="0" * 64, size=1, parity=()
    )
    result = StepResult(model=model, changed=True, facts={})
    return Stage(name="x", result=result, answers=[], parity=(), record=record)


class MadeUp:
    """A model whose `harmful` layers cost points each while they are in integers."""

    def __init__(
        self,
        layers: int,
        harmful: Mapping[str, float],
        *,
        ranked: Sequence[str] | None = None,
        by_method: Mapping[str, float] | None = None,
        allowed: float = 0.5,
    ) -> None:
        self.names = [f"n{i:03d}" for i in range(layers)]
        self.harmful = harmful
        self.by_method = by_method or {}
        self.allowed = allowed
        first = sorted(harmful, key=lambda n: -harmful[n])
        self.ranked = ranked or [*first, *(n for n in self.names if n not in harmful)]
        self.search = Search(
            attempt=self.attempt,
            rank=lambda candidate: self.ranked,
            cost={n: 1000 - i for i, n in enumerate(self.names)},
        )

    def attempt(self, options: Mapping[str, Any]) -> Candidate:
        kept = options.get("float_nodes", ())
        drop = sum(points for n, points in self.harmful.items() if n not in kept)
        drop *= self.by_method.get(options.get("method", "minmax"), 1.0)
        measured = Measured(score=100 - drop, reference=100, drop=drop, holds=drop <= self.allowed)
        return Candidate(plan=PLAN, options=options, stages=[a_stage()], measured=measured)

    def run(self, *variants: Mapping[str, Any]) -> Candidate:
        return self.search.run(self.attempt({}), variants)


def test_the_first_variant_that_holds_is_taken() -> None:
    made = MadeUp(10, {"n003": 2.0}, by_method={"entropy": 0.1, "percentile": 0.2})
    best = made.run({"method": "moving_average"}, {"method": "percentile"}, {"method": "entropy"})
    assert best.options == {"method": "percentile"}
    assert len(made.search.trail) == 3


def test_the_one_layer_that_hurts_is_kept_in_float() -> None:
    made = MadeUp(100, {"n042": 3.0})
    assert made.run().options["float_nodes"] == ("n042",)


def test_layers_start_from_the_variant_that_lost_least() -> None:
    made = MadeUp(20, {"n001": 4.0, "n002": 4.0}, by_method={"entropy": 0.5})
    best = made.run({"method": "entropy"}, {"method": "moving_average"})
    assert best.options == {"method": "entropy", "float_nodes": ("n001", "n002")}


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13])
def test_no_more_layers_stay_in_float_than_are_needed(count: int) -> None:
    harmful = {f"n{7 * i:03d}": 1.0 + i for i in range(count)}
    made = MadeUp(100, harmful)
    assert made.run().options["float_nodes"] == tuple(sorted(harmful))


def test_a_layer_that_was_ranked_too_high_goes_back_to_integers() -> None:
    made = MadeUp(50, {"n010": 2.0}, ranked=["n030", "n031", "n010", "n005"])
    assert made.run().options["float_nodes"] == ("n010",)


def test_of_all_that_hold_the_one_with_the_least_work_in_float_is_taken() -> None:
    """Also where it was tried before the last: accuracy on few samples does not grow with each layer in float."""
    made = MadeUp(4, {"n000": 2.0, "n003": 2.0}, ranked=["n003", "n000", "n001", "n002"])
    best = made.run()
    work = {c.options["float_nodes"]: made.search.work(c) for c in made.search.trail if c.holds}
    assert best.options["float_nodes"] == min(work, key=lambda kept: work[kept])


def test_where_nothing_holds_the_best_is_given_and_says_so() -> None:
    made = MadeUp(8, {"n001": 1.0, "elsewhere": 5.0}, ranked=["n001", "n002"])
    best = made.run({"method": "entropy"})
    assert not best.holds
    assert best.measured is not None
    assert best.measured.drop == 5.0


def test_a_search_ends() -> None:
    harmful = {f"n{i:03d}": 1.0 for i in range(500)}
    made = MadeUp(500, harmful)
    made.run(*({"method": "entropy"} for _ in range(3)))
    assert len(made.search.trail) <= MOST_ATTEMPTS


def test_what_is_never_let_through_is_rescued_by_layers_in_float_too() -> None:
    made = MadeUp(10, {"n003": 2.0})
    build = made.attempt

    def attempt(options: Mapping[str, Any]) -> Candidate:
        if "n003" in options.get("float_nodes", ()):
            return build(options)
        error = ParityError("far off", "mend it")
        return Candidate(plan=PLAN, options=options, stages=(), measured=None, error=error)

    made.search.attempt = attempt
    best = made.search.run(attempt({}), [{"method": "entropy"}])
    assert best.holds
    assert best.options == {"float_nodes": ("n003",)}


def test_a_way_that_cannot_be_built_is_passed_over() -> None:
    made = MadeUp(10, {"n003": 2.0})
    build = made.attempt

    def attempt(options: Mapping[str, Any]) -> Candidate:
        if options.get("method") == "entropy":
            error = ParityError("broken", "mend it")
            return Candidate(plan=PLAN, options=options, stages=(), measured=None, error=error)
        return build(options)

    made.search.attempt = attempt
    best = made.run({"method": "entropy"})
    assert best.options == {"float_nodes": ("n003",)}
    assert [c.failure for c in made.search.trail[:2]] == ["", "broken"]


@pytest.mark.parametrize("harmful", [1, 5, 11])
def test_a_head_that_leaves_nothing_to_quantize_does_not_end_the_search(harmful: int) -> None:
    """Of sixteen layers; with twelve or more in float, none is left to quantize."""
    model = MadeUp(
        16, {f"n{i:03d}": 1.0 for i in range(harmful)}, ranked=[f"n{i:03d}" for i in range(16)]
    )

    def attempt(options: Mapping[str, Any]) -> Candidate:
        if len(options.get("float_nodes", ())) > 11:
            error = StepError("no operator of this model can be quantized", "use fp16")
            return Candidate(plan=PLAN, options=options, stages=(), measured=None, error=error)
        return model.attempt(options)

    model.search.attempt = attempt
    best = model.run()
    assert best.holds
    assert len(best.kept_float) == harmful
