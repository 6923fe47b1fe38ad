"""How far two answers may be apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from edgepack.errors import ParityError
from edgepack.prove.parity import Parity, compare, require
from edgepack.targets import Tolerance


def verdict(answer: object, source: object, **tolerance: float) -> Parity:
    """The one verdict on output `y`."""
    a, b = ({"y": np.asarray(x, np.float32)} for x in (answer, source))
    (parity,) = compare([b], [a], Tolerance(**{"atol": 1e-4, "rtol": 0.0, **tolerance}))
    return parity


def test_equal_answers_pass_at_distance_zero() -> None:
    parity = verdict([1.0, -2.0], [1.0, -2.0])
    assert (parity.passed, parity.max_abs, parity.mse, parity.why) == (True, 0.0, 0.0, "")
    assert parity.cosine == pytest.approx(1.0)


@pytest.mark.parametrize(("distance", "passes"), [(0.9e-4, True), (1.1e-4, False)])
def test_atol_is_the_bound(distance: float, passes: bool) -> None:
    assert verdict([distance], [0.0]).passed is passes


def test_rtol_is_a_share_of_the_source_not_of_the_answer() -> None:
    assert verdict([0.0], [1.0], rtol=1.0).passed
    assert not verdict([1.0], [0.0], rtol=1.0).passed


def test_range_is_a_share_of_the_largest_source_value() -> None:
    assert verdict([10.0, 0.9], [10.0, 0.0], range=0.1).passed
    assert not verdict([10.0, 1.1], [10.0, 0.0], range=0.1).passed
    assert not verdict([10.0, 0.9], [1.0, 0.9], range=0.1).passed


def test_an_infinite_source_value_does_not_widen_the_range() -> None:
    assert not verdict([math.inf, 1.0], [math.inf, 0.0], range=0.5).passed


def test_nan_against_nan_passes() -> None:
    assert verdict([math.nan, 1.0], [math.nan, 1.0]).passed


@pytest.mark.parametrize(("answer", "source"), [(math.nan, 1.0), (1.0, math.nan)])
def test_nan_against_a_number_fails_at_infinite_distance(answer: float, source: float) -> None:
    parity = verdict([answer], [source], atol=1e30, rtol=1e30, range=1e30)
    assert not parity.passed
    assert parity.max_abs == math.inf


@pytest.mark.parametrize("sign", [1, -1])
def test_equal_infinities_pass(sign: int) -> None:
    assert verdict([sign * math.inf, 1.0], [sign * math.inf, 1.0], cosine=0.9).passed


@pytest.mark.parametrize(
    ("answer", "source"), [(math.inf, -math.inf), (math.inf, 1.0), (1.0, math.inf)]
)
def test_infinity_against_another_value_fails(answer: float, source: float) -> None:
    assert not verdict([answer], [source], atol=1e30, rtol=1e30).passed


def test_another_shape_fails_and_both_shapes_are_named() -> None:
    parity = verdict([[1.0, 2.0]], [1.0, 2.0])
    assert not parity.passed
    assert "[1, 2]" in parity.why
    assert "[2]" in parity.why


def test_a_missing_output_fails() -> None:
    tolerance = Tolerance(atol=1.0, rtol=1.0)
    y = np.zeros(2, np.float32)
    first, second = compare([{"y": y, "z": y}], [{"y": y}], tolerance)
    assert first.passed
    assert not second.passed
    assert second.output == "z"


def test_a_scalar_that_is_off_fails() -> None:
    assert verdict(1.0, 1.0).passed
    assert not verdict(2.0, 1.0).passed


def test_an_empty_output_passes() -> None:
    assert verdict(np.zeros((0, 3)), np.zeros((0, 3))).passed


def test_cosine_catches_what_a_wide_range_lets_through() -> None:
    assert verdict([0.0, 1.0], [1.0, 0.0], range=1.0).passed
    parity = verdict([0.0, 1.0], [1.0, 0.0], range=1.0, cosine=0.9)
    assert not parity.passed
    assert "cosine" in parity.why


def test_cosine_of_zero_with_zero_is_one_and_with_another_zero() -> None:
    assert verdict([0.0, 0.0], [0.0, 0.0], cosine=1.0).passed
    assert verdict([0.0, 0.0], [1e-5, 0.0]).cosine == 0.0


def test_large_float16_values_do_not_overflow() -> None:
    a, b = np.array([60000], np.float16), np.array([-60000], np.float16)
    (parity,) = compare([{"y": b}], [{"y": a}], Tolerance(atol=0, rtol=0))
    assert parity.max_abs == pytest.approx(120_000, rel=1e-3)


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_and_bool_are_compared_by_value(dtype: str) -> None:
    a, b = np.array([0, 1]).astype(dtype), np.array([1, 0]).astype(dtype)
    (parity,) = compare([{"y": b}], [{"y": a}], Tolerance(atol=0.5, rtol=0))
    assert parity.max_abs == 1.0
    assert not parity.passed


def test_where_an_output_says_next_to_nothing_its_own_largest_answer_is_the_measure() -> None:
    """A sample without any tag: one step of an 8-bit sigmoid is 1/256, far more than a share of this sample's answers."""
    tags, none = np.array([0.9, 0.02, 0.7]), np.array([0.002, 0.0, 0.001])
    rounded = [{"y": np.array([0.9, 0.02, 0.7])}, {"y": np.array([0.0, 0.0039, 0.0])}]
    tolerance = Tolerance(atol=1e-3, rtol=0.0, range=0.05, cosine=0.95)
    (parity,) = compare([{"y": tags}, {"y": none}], rounded, tolerance)
    assert parity.passed
    assert parity.allowed_abs == pytest.approx(1e-3 + 0.05 * 0.9)
    assert parity.cosine > 0.99


def test_the_cosine_of_all_cases_falls_with_one_that_is_turned() -> None:
    cases = [{"y": np.eye(3)[i]} for i in range(3)]
    (parity,) = compare(
        cases, [*cases[:2], {"y": np.eye(3)[0]}], Tolerance(atol=1.0, rtol=0, cosine=0.95)
    )
    assert not parity.passed
    assert "cosine" in parity.why


def test_one_bad_case_fails_all_and_the_worst_is_shown() -> None:
    good, bad = {"y": np.zeros(2, np.float32)}, {"y": np.array([0, 3], np.float32)}
    (parity,) = compare([good] * 3, [good, bad, good], Tolerance(atol=1.0, rtol=0.0))
    assert not parity.passed
    assert parity.max_abs == 3.0
    assert "[1]" in parity.why


def test_a_failed_case_is_shown_though_a_passing_one_is_further_off() -> None:
    wide, narrow = {"y": np.array([100.0])}, {"y": np.array([1.0])}
    answers = [{"y": np.array([105.0])}, {"y": np.array([2.0])}]
    (parity,) = compare([wide, narrow], answers, Tolerance(atol=0.0, rtol=0.1))
    assert not parity.passed
    assert parity.max_abs == 5.0
    assert "2 came for 1" in parity.why


def test_json_has_null_for_what_is_not_finite() -> None:
    data = verdict([math.nan], [1.0]).as_json()
    assert data["max_abs"] is None
    assert data["mse"] is None
    assert data["passed"] is False


def test_the_error_names_target_stage_output_place_and_numbers() -> None:
    parity = verdict([[0.0, 5.0]], [[0.0, 1.0]])
    with pytest.raises(ParityError) as caught:
        require([parity], stage="float16", where="my-board", precision="fp16")
    for part in ("my-board", "float16", "'y'", "[0, 1]", "5 came for 1", "allowed 0.0001"):
        assert part in caught.value.cause
    assert "--atol" in caught.value.fix


def test_the_remedy_for_int8_is_better_calibration() -> None:
    with pytest.raises(ParityError, match="--calibration"):
        require([verdict([5.0], [1.0])], stage="int8", where="my-board", precision="int8")


def test_require_lets_good_outputs_pass() -> None:
    require([verdict([1.0], [1.0])], stage="simplify", where="my-board", precision="fp32")
