"""Histograms that grow."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.calibrate.histogram import BINS, Histogram


def histogram_of(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part)
    return histogram


@pytest.mark.parametrize("seed", range(5))
def test_counts_depend_neither_on_order_nor_on_grouping(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(size=5000) * 10.0 ** rng.uniform(-6, 6, 5000)
    whole = histogram_of(values)
    parted = histogram_of(*np.split(rng.permutation(values), 50))
    assert whole.exponent == parted.exponent
    assert np.array_equal(whole.counts, parted.counts)
    assert whole.total == 5000


def test_each_value_lies_in_its_bin() -> None:
    values = np.array([-3.0, -2.9, -0.001, 0.0, 0.001, 1.5, 2.999])
    histogram = histogram_of(values)
    for value in values:
        at = int(np.floor(value / histogram.width)) + BINS
        assert histogram.counts[at] > 0
    assert histogram.width * BINS >= 3.0 > histogram.width * BINS / 2


def test_a_largest_value_that_is_a_power_of_two_fills_the_bins() -> None:
    histogram = histogram_of(np.array([-4.0, 4.0]))
    assert histogram.width * BINS == 4.0
    assert histogram.counts[0] == histogram.counts[-1] == 1


def test_zeros_alone_widen_nothing() -> None:
    histogram = histogram_of(np.zeros(3), np.array([0.5]))
    assert histogram.total == 4
    assert histogram.counts[BINS] == 3
    assert histogram.width * BINS == 0.5


def test_the_smallest_and_the_largest_float32_meet_in_one_histogram() -> None:
    tiny, huge = np.float32(1e-45), np.finfo(np.float32).max
    histogram = histogram_of(np.array([tiny]), np.array([-huge]))
    assert histogram.total == 2
    assert histogram.counts[BINS] == 1


def test_magnitudes_fold_both_sides() -> None:
    histogram = histogram_of(np.array([-1.0, -0.3, 0.3, 0.9, 0.9]))
    magnitudes = histogram.magnitudes()
    assert magnitudes.sum() == 5
    assert magnitudes[int(0.9 / histogram.width)] == 2
