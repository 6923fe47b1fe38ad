"""The constant matrices against numpy's transforms in float64."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.intake.tensorflow.handlers.dft import (
    FACTOR_UP_TO,
    MATRIX_UP_TO,
    factors,
    hermitian_weights,
    next_length,
    roots,
)


@pytest.mark.parametrize("length", [1, 2, 9, 400, 512])
def test_the_matrix_is_the_transform(length: int) -> None:
    x = np.random.default_rng(0).standard_normal(length)
    bins = length // 2 + 1
    cos, sin = roots(length, bins, length, -1)
    np.testing.assert_allclose(x @ cos + 1j * (x @ sin), np.fft.rfft(x), atol=1e-11)


def test_quarter_turns_are_exact() -> None:
    cos, sin = roots(8, 8, 8, -1)
    assert not sin[:, 0].any()
    assert not sin[:, 4].any()
    assert list(cos[:, 2]) == [1, 0, -1, 0, 1, 0, -1, 0]


@pytest.mark.parametrize("length", [1, 2, 9, 12])
def test_weights_count_the_bins_of_a_whole_spectrum(length: int) -> None:
    bins = length // 2 + 1
    assert hermitian_weights(bins, length).sum() == length


def test_lengths_become_one_matrix_or_two_factors() -> None:
    assert factors(MATRIX_UP_TO) == (1, MATRIX_UP_TO)
    assert factors(1024) == (32, 32)
    assert factors(16000) == (125, 128)
    assert factors(1031) == (1, 1031)  # prime
    assert factors(2053) is None  # prime, 16.8 MB


def test_the_next_length_is_one_that_can_be_transformed() -> None:
    assert next_length(2053) == 2054
    assert factors(2054)
    assert next_length(FACTOR_UP_TO**2 - 1) == FACTOR_UP_TO**2
    assert next_length(FACTOR_UP_TO**2 + 1) is None
