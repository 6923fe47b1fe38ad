"""From values to ranges."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.calibrate.methods import Method, MethodName, Range
from edgepack.calibrate.observation import Observation, Values


def observed(*feeds: np.ndarray) -> Observation:
    values = Values()
    for feed in feeds:
        values.add(feed)
    return Observation(values={"x": values}, samples=len(feeds))


def range_of(
    name: MethodName, *feeds: np.ndarray, percentile: float = 99.999, symmetric: bool = False
) -> Range:
    method = Method(name=name, percentile=percentile, symmetric=symmetric)
    return method.ranges(observed(*feeds))["x"]


def rounding_error(values: np.ndarray, limits: Range) -> float:
    """Mean squared error of 8-bit integers over the range."""
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = (high - low) / 255
    back = np.round((np.clip(values, low, high) - low) / scale) * scale + low
    return float(np.mean((back - values) ** 2))


def test_minmax_covers_everything() -> None:
    assert range_of("minmax", np.array([1.0, -2.0]), np.array([0.5, 7.0])) == (-2.0, 7.0)


def test_the_moving_average_follows_slowly() -> None:
    low, high = range_of("moving_average", np.array([-1.0, 1.0]), np.array([-1.0, 101.0]))
    assert (low, high) == (-1.0, pytest.approx(2.0))


def test_a_percentile_leaves_out_the_outermost_of_both_sides() -> None:
    values = np.linspace(-1, 1, 100_001)
    low, high = range_of("percentile", values, percentile=90)
    assert (low, high) == (pytest.approx(-0.9, abs=2e-3), pytest.approx(0.9, abs=2e-3))


def test_a_percentile_of_100_is_minmax() -> None:
    values = np.random.default_rng(0).normal(size=1000)
    assert range_of("percentile", values, percentile=100) == range_of("minmax", values)


def test_entropy_clips_a_far_outlier() -> None:
    values = np.random.default_rng(0).normal(size=100_000)
    values[0] = 40.0
    low, high = range_of("entropy", values)
    assert 2.5 < high < 10
    assert low == pytest.approx(max(-high, values.min()))
    assert (
        rounding_error(values[1:], (low, high))
        < rounding_error(values[1:], (values.min(), 40.0)) / 5
    )


def test_entropy_keeps_an_even_distribution_whole() -> None:
    values = np.random.default_rng(0).uniform(-1, 1, 200_000)
    _, high = range_of("entropy", values)
    assert high > 0.95


def every_range(values: np.ndarray, *, symmetric: bool) -> float:
    """The least rounding error over a dense grid of ranges, each tried on the values themselves."""
    lows, highs = (np.linspace(0, end, 41) for end in (values.min(), values.max()))
    if symmetric:
        ends = np.linspace(0, np.abs(values).max(), 200)[1:]
        return min(rounding_error(values, (-end, end)) for end in ends)
    return min(rounding_error(values, (a, b)) for a in lows for b in highs if b > a)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("shape", ["normal", "laplace", "skewed"])
def test_no_range_has_a_smaller_squared_error_than_mses(shape: str, symmetric: bool) -> None:
    rng = np.random.default_rng(2)
    values = {
        "normal": rng.normal(size=20_000),
        "laplace": rng.laplace(size=20_000),
        "skewed": rng.exponential(size=20_000) ** 1.5 - 0.5,
    }[shape]
    low, high = range_of("mse", values, symmetric=symmetric)
    end = max(-low, high)
    found = rounding_error(values, (-end, end) if symmetric else (low, high))
    assert found <= 1.05 * every_range(values, symmetric=symmetric)


def test_mse_clips_what_costs_more_to_cover_and_keeps_an_even_distribution_whole() -> None:
    rng = np.random.default_rng(0)
    even = rng.uniform(-1, 1, 100_000)
    assert range_of("mse", even) == (pytest.approx(-1, abs=0.01), pytest.approx(1, abs=0.01))
    assert range_of("mse", np.append(even, 9.0))[1] < 8.5
    # Ten times as many that it would be coarser for.
    many = np.append(np.tile(even, 10), 9.0)
    assert range_of("mse", many)[1] < 5


def test_zeros_of_a_relu_do_not_decide_the_threshold() -> None:
    rng = np.random.default_rng(0)
    positive = np.abs(rng.normal(size=50_000))
    half = np.concatenate([positive, np.zeros(450_000)])
    assert range_of("entropy", half)[1] == pytest.approx(range_of("entropy", positive)[1], rel=0.35)
    assert range_of("entropy", half)[0] == 0.0


@pytest.mark.parametrize("name", ["minmax", "moving_average", "percentile", "entropy", "mse"])
def test_a_constant_tensor_has_a_range_of_one_value(name: MethodName) -> None:
    assert range_of(name, np.full(10, 3.0), np.full(10, 3.0)) == (3.0, 3.0)


@pytest.mark.parametrize("name", ["minmax", "moving_average", "percentile", "entropy", "mse"])
def test_no_range_is_wider_than_what_was_seen(name: MethodName) -> None:
    values = np.random.default_rng(3).normal(size=10_000) ** 3
    low, high = range_of(name, values)
    assert values.min() <= low < high <= values.max()


def test_values_that_are_not_finite_are_left_out() -> None:
    assert range_of("minmax", np.array([1.0, np.inf, np.nan, -1.0])) == (-1.0, 1.0)


def test_a_tensor_of_which_nothing_was_seen_has_no_range() -> None:
    assert Method().ranges(observed(np.zeros(0))) == {}


def test_an_observation_survives_its_bytes() -> None:
    before = observed(np.random.default_rng(0).normal(size=100), np.array([5.0]))
    after = Observation.from_bytes(before.to_bytes())
    assert after.samples == 2
    for name in ("minmax", "moving_average", "percentile", "entropy", "mse"):
        assert Method(name=name).ranges(after) == Method(name=name).ranges(before)
