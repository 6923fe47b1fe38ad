"""Places in sorted lists, ranks, one-hot rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

ROWS = np.random.default_rng(1).uniform(-2, 2, (3, 6)).astype(np.float32)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "int64", "uint8"])
def test_one_hot_is_off_for_negative_indices_in_every_type(dtype: str) -> None:
    agree(lambda i: tf.one_hot(i, 4, dtype=dtype), np.array([[0, -1, 3], [-4, 4, 1]], np.int32))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_one_hot_agrees_on_every_axis_with_any_values(axis: int) -> None:
    agree(lambda i: tf.one_hot(i, 4, 5.0, -1.0, axis), np.array([[0, 7, 3]], np.uint8))


def test_one_hot_flags_agree() -> None:
    agree(lambda i: tf.one_hot(i, 4, True, False, dtype=tf.bool), np.array([0, -1, 3], np.int32))


@pytest.mark.parametrize("side", ["left", "right"])
def test_searchsorted_agrees_at_equal_numbers(side: str) -> None:
    agree(
        lambda a, v: tf.searchsorted(a, v, side),
        np.array([1, 2, 2, 3], np.float32),
        np.array([0, 2, 3, 5], np.float32),
    )
    agree(lambda a, v: tf.searchsorted(a, v, side, tf.int64), np.sort(ROWS), ROWS[:, :2].copy())


@pytest.mark.parametrize(
    ("function", "feeds"),
    [
        (
            lambda x: tf.raw_ops.Bucketize(input=x, boundaries=[-1.0, 0, 1]),
            [np.array([-1, 0, 0.5, 1, 9], np.float32)],
        ),
        (lambda t, p: tf.math.in_top_k(t, p, 2), [np.array([0, 3, 5], np.int32), ROWS]),
        (lambda x: tf.raw_ops.NthElement(input=x, n=2), [ROWS]),
        (tf.math.invert_permutation, [np.array([2, 0, 1, 3], np.int32)]),
        (lambda x: tf.histogram_fixed_width(x, [-1.0, 1.0], 5), [ROWS]),
        (
            lambda x, y: tf.raw_ops.ListDiff(x=x, y=y),
            [np.arange(5, dtype=np.int32), np.array([2, 4], np.int32)],
        ),
    ],
    ids=["Bucketize", "InTopK", "NthElement", "InvertPermutation", "Histogram", "ListDiff"],
)
def test_it_agrees(function: Any, feeds: list[Any]) -> None:
    agree(function, *feeds)


def test_approximate_top_k_is_exact() -> None:
    agree(lambda x: tf.math.approx_max_k(x, 3), ROWS, shapes=[[3, 6]])


def test_rows_with_infinities_are_in_no_top_k() -> None:
    rows = np.array(
        [[np.inf, 1, 0], [-np.inf, 1, 0], [np.nan, 1, 0], [2, np.inf, 0], [2, 1, 0]], np.float32
    )
    agree(lambda t, p: tf.math.in_top_k(t, p, 2), np.ones(5, np.int32), rows)
