"""What is chosen among candidates whose accuracy, size and speed are made up; no model runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from edgepack.artifact import Format, ModelFile
from edgepack.bundle.manifest import StageRecord
from edgepack.choose.candidate import Candidate
from edgepack.choose.choice import Choice, Chooser, Prefer
from edgepack.choose.gate import Gate, Measured
from edgepack.choose.race import Timing
from edgepack.errors import AccuracyError, EdgepackError, LegalityError, StepError
from edgepack.passes.plan import Plan, ShapeRequest, make_plans
from edgepack.passes.step import StepResult
from edgepack.stages import Stage
from edgepack.targets import load_target

SIZES = {"fp32": 400, "fp16-weights": 200, "int8-weights": 110, "int8": 100}


def stage(folder: Path, precision: str, kept_size: int = 0) -> Stage:
    """What is made of a precision; with layers in float, of the size `kept_size`."""
    path = folder / f"{precision}{'-kept' if kept_size else ''}.onnx"
    path.write_bytes(bytes(kept_size or SIZES[precision]))
    file = ModelFile(path=path, format=Format.ONNX, inputs=(), outputs=())
    result = StepResult(model=file, changed=True, facts={})
    record = StageRecord(
        step="x", options={}, changed=True, facts={}, sha256="0" * 64, size=1, parity=()
    )
    return Stage(name="x", result=result, answers=[], parity=(), record=record)


class FakeGate(Gate):
    """Drops by precision."""

    def __init__(self, drops: Mapping[str, float]) -> None:
        super().__init__(
            metric=None, max_drop=1.0, feeds=lambda: iter(()), samples=1, origin="", digest=""
        )
        object.__setattr__(self, "drops", drops)

    def measured(self, model: ModelFile, float_model: ModelFile, engine: object = None) -> Measured:
        drop = self.drops.get(model.path.stem, 0.0)  # type: ignore[attr-defined]
        return Measured(score=100 - drop, reference=100, drop=drop, holds=drop <= 1.0)


class Made:
    """A web target on which each precision is as good and as quick as said; every race is noted."""

    def __init__(
        self,
        folder: Path,
        *,
        drops: Mapping[str, float] | None = None,
        times_ms: Mapping[str, float] | None = None,
        errors: Mapping[str, EdgepackError] | None = None,
        prefer: Prefer = "speed",
        measured: bool = True,
        requested: str = "auto",
        layers: Sequence[str] = (),
        kept_size: int = 0,
    ) -> None:
        self.folder, self.errors, self.times_ms = folder, errors or {}, times_ms
        self.plans = make_plans(
            load_target("web"),
            requested=requested,
            calibrated=measured,
            shapes=ShapeRequest(),
            atol=None,
            rtol=None,
        )
        self.kept_size = kept_size
        self.races: list[tuple[str, ...]] = []
        self.chooser = Chooser(
            run=self.run,
            rank=lambda candidate: layers,
            cost=lambda candidate: {},
            gate=FakeGate(drops or {}) if measured else None,
            race=self.race if times_ms is not None else None,
            untimed="" if times_ms is not None else "there is no engine",
            prefer=prefer,
            say=lambda text: None,
        )

    def run(self, plan: Plan) -> tuple[Sequence[Stage], Sequence[str]]:
        if plan.precision in self.errors:
            raise self.errors[plan.precision]
        # One for the conversion, one for each step: what the float model is, is found by place.
        kept = any(getattr(step, "float_nodes", ()) for step in plan.steps)
        made = stage(self.folder, plan.precision, self.kept_size if kept else 0)
        return [made] * (len(plan.steps) + 1), ()

    def race(self, candidates: Mapping[str, Candidate]) -> Mapping[str, Timing]:
        assert self.times_ms is not None
        self.races.append(tuple(candidates))
        return {n: Timing((self.times_ms[n],) * 9) for n in candidates}

    def choose(self) -> Choice:
        return self.chooser.choose(self.plans)


SAME = {"fp32": 10.0, "fp16-weights": 10.1, "int8-weights": 10.2, "int8": 20.0}


def test_where_all_are_as_quick_the_smaller_download_wins(tmp_path: Path) -> None:
    choice = Made(tmp_path, times_ms=SAME).choose()
    assert choice.chosen.plan.precision == "int8-weights"
    assert choice.because.endswith("; no other is quicker by more than 10%, timed side by side")
    assert set(choice.timings) == {"int8-weights", "fp16-weights", "fp32", "int8"}


def test_what_is_quicker_beyond_doubt_wins(tmp_path: Path) -> None:
    choice = Made(tmp_path, times_ms={**SAME, "int8": 6.0}).choose()
    assert choice.chosen.plan.precision == "int8"
    assert choice.because == "quicker than int8-weights, timed side by side"


def test_of_a_model_that_takes_no_time_the_preference_stays_and_nothing_untrue_is_said_of_it(
    tmp_path: Path,
) -> None:
    times = {name: ms / 100 for name, ms in {**SAME, "int8": 6.0}.items()}
    choice = Made(tmp_path, times_ms=times).choose()
    assert choice.chosen.plan.precision == "int8-weights"
    assert "a run takes less than 0.2 ms" in choice.because
    assert "no other is quicker" not in choice.because


@pytest.mark.parametrize(
    ("kept_size", "chosen", "because"),
    [
        (195, "fp16-weights", "as quick and as small as int8-weights with 1 layer in float, and"),
        (120, "int8-weights", ", but for 1 layer in float; no other is quicker"),
    ],
)
def test_layers_in_float_must_leave_something_of_what_a_precision_is_preferred_for(
    tmp_path: Path, kept_size: int, chosen: str, because: str
) -> None:
    drops = {"int8-weights": 3, "int8-weights-kept": 0.9, "fp16-weights": 0.1, "int8": 5}
    made = Made(tmp_path, drops=drops, times_ms=SAME, layers=["a"], kept_size=kept_size)
    choice = made.choose()
    assert choice.chosen.plan.precision == chosen
    assert because in choice.because


def test_what_loses_too_much_is_not_chosen_however_quick_and_small(tmp_path: Path) -> None:
    made = Made(tmp_path, drops={"int8-weights": 3, "int8": 5}, times_ms={**SAME, "int8": 6.0})
    assert made.choose().chosen.plan.precision == "fp16-weights"


def test_what_would_not_be_quicker_is_not_searched_for_a_way_that_holds(tmp_path: Path) -> None:
    made = Made(tmp_path, drops={"int8": 5}, times_ms=SAME)
    choice = made.choose()
    assert made.races[0] == ("int8-weights", "int8")
    assert sum(c.plan.precision == "int8" for c in choice.trail) == 1


def test_what_would_be_quicker_is(tmp_path: Path) -> None:
    made = Made(tmp_path, drops={"int8": 5}, times_ms={**SAME, "int8": 6.0})
    tried = sum(c.plan.precision == "int8" for c in made.choose().trail)
    assert tried == 1 + len(load_target("web").precisions["int8"].variants)


def test_without_an_engine_the_profiles_order_counts_and_is_said_to(tmp_path: Path) -> None:
    choice = Made(tmp_path).choose()
    assert choice.chosen.plan.precision == "int8-weights"
    assert [c.plan.precision for c in choice.trail] == ["int8-weights"]
    assert (choice.timings, choice.untimed) == ({}, "there is no engine")


def test_where_one_precision_is_asked_for_nothing_is_missing(tmp_path: Path) -> None:
    choice = Made(tmp_path, requested="fp32").choose()
    assert choice.untimed == ""


def test_without_data_nothing_is_chosen_that_had_to_be_measured(tmp_path: Path) -> None:
    choice = Made(tmp_path, measured=False, times_ms=SAME).choose()
    assert choice.chosen.plan.precision == "fp16-weights"
    assert {c.plan.precision for c in choice.trail} == {"fp16-weights", "fp32"}


@pytest.mark.parametrize(
    ("prefer", "chosen"), [("size", "int8"), ("accuracy", "fp32"), ("speed", "int8-weights")]
)
def test_prefer_says_what_counts(tmp_path: Path, prefer: Prefer, chosen: str) -> None:
    choice = Made(tmp_path, times_ms=SAME, prefer=prefer).choose()
    assert choice.chosen.plan.precision == chosen


def test_the_smallest_has_to_be_accurate_enough(tmp_path: Path) -> None:
    made = Made(tmp_path, drops={"int8": 4}, prefer="size")
    assert made.choose().chosen.plan.precision == "int8-weights"


def test_a_precision_that_cannot_be_built_is_passed_over(tmp_path: Path) -> None:
    errors = {"int8-weights": StepError("no weights", "use fp32")}
    choice = Made(tmp_path, errors=errors, times_ms=SAME).choose()
    assert choice.chosen.plan.precision == "fp16-weights"
    assert choice.trail[0].failure == "no weights"


def test_what_is_wrong_with_every_precision_is_told_of_the_plainest(tmp_path: Path) -> None:
    errors: dict[str, EdgepackError] = {
        p: StepError(f"{p} cannot be done", "use another") for p in SIZES
    }
    errors["fp32"] = LegalityError("the device has no such operator", "rewrite it")
    with pytest.raises(LegalityError, match="no such operator"):
        Made(tmp_path, errors=errors).choose()


def test_one_that_was_asked_for_and_loses_too_much_is_an_error(tmp_path: Path) -> None:
    made = Made(tmp_path, requested="int8-weights", drops={"int8-weights": 3})
    with pytest.raises(AccuracyError, match="int8-weights loses 3 points"):
        made.choose()


def test_the_only_one_that_holds_says_what_comes_before_it_and_does_not(tmp_path: Path) -> None:
    drops = {"int8-weights": 3, "fp16-weights": 2, "int8": 5}
    choice = Made(tmp_path, drops=drops, prefer="accuracy").choose()
    assert choice.chosen.plan.precision == "fp32"
    assert choice.because.startswith(
        "int8-weights does not hold; fp16-weights does not hold; int8 does not hold; "
    )


def test_runs_too_short_to_matter_are_not_called_the_quickest(tmp_path: Path) -> None:
    times = {**dict.fromkeys(SAME, 0.02), "int8-weights": 0.1}
    choice = Made(tmp_path, times_ms=times).choose()
    assert choice.chosen.plan.precision == "int8-weights"
    assert "of which a quicker one would save little" in choice.because


@pytest.mark.parametrize(("work", "chosen"), [(60, "fp16-weights"), (40, "int8-weights")])
def test_what_holds_only_with_most_of_its_work_in_float_gives_way(
    tmp_path: Path, work: int, chosen: str
) -> None:
    """Nothing is timed there, and the profile's reason, that integers are quick or small, is no more true."""
    made = Made(tmp_path, drops={"int8-weights": 3})
    build = made.chooser.run

    def run(plan: Plan) -> tuple[Sequence[Stage], Sequence[str]]:
        stages, warnings = build(plan)
        rescued = any(getattr(step, "float_nodes", ()) for step in plan.steps)
        holds = [stage(tmp_path, "fp16-weights")] * len(stages)
        return (holds if rescued else stages), warnings

    made.chooser.run = run
    made.chooser.rank = lambda candidate: ("first", "second")
    made.chooser.cost = lambda candidate: {"first": work, "second": 100 - work}
    choice = made.choose()
    assert choice.chosen.plan.precision == chosen
    passed = "int8-weights holds only with most of its work in float; "
    assert choice.because.startswith(passed) is (chosen == "fp16-weights")
