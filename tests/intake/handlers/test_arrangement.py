"""Shapes, diagonals, patches and the order of elements."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

X = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
RAW = tf.raw_ops


@pytest.mark.parametrize(
    ("function", "feeds"),
    [
        (lambda a, b: tf.shape_n([a, b]), [X, X[0]]),
        (lambda a, b: tf.broadcast_dynamic_shape(tf.shape(a), tf.shape(b)), [X, X[0, :1]]),
        (lambda i: tf.unravel_index(i, [3, 4]), [np.array([5, 7, 11], np.int32)]),
        (lambda x: RAW.Reverse(tensor=x, dims=[True, False, True]), [X]),
        (tf.linalg.tensor_diag, [X[0]]),
        (tf.linalg.tensor_diag_part, [X[0, :5, :5].copy()]),
        (lambda x: tf.roll(x, [13, -7], [0, 2]), [X]),
        (lambda x, s: tf.roll(x, s, 1), [X, np.int32(-12)]),
        (lambda x, n: tf.reverse_sequence(x, n, 2, 0), [X, np.array([2, 5, 1, 3], np.int32)]),
    ],
)
def test_it_agrees(function: Any, feeds: list[Any]) -> None:
    agree(function, *feeds)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(
    ("window", "stride", "rate"), [((3, 2), (1, 2), 2), ((2, 2), (2, 2), 1), ((3, 3), (3, 3), 1)]
)
def test_patches_agree(
    padding: str, window: tuple[int, int], stride: tuple[int, int], rate: int
) -> None:
    image = np.random.default_rng(1).normal(size=(2, 9, 8, 4)).astype(np.float32)
    agree(
        lambda x: tf.image.extract_patches(
            x, [1, *window, 1], [1, *stride, 1], [1, rate, rate, 1], padding
        ),
        image,
    )


def test_patches_of_volumes_agree() -> None:
    volume = np.random.default_rng(1).normal(size=(1, 4, 5, 4, 2)).astype(np.float32)
    sizes = {"ksizes": [1, 2, 3, 2, 1], "strides": [1, 1, 2, 1, 1], "padding": "SAME"}
    agree(lambda x: RAW.ExtractVolumePatches(input=x, **sizes), volume)


def test_a_slice_is_updated_within_the_edges() -> None:
    part = np.ones((2, 3, 6), np.float32)
    for start in ([1, 1, 0], [3, 9, -2]):
        at = np.array(start, np.int32)
        agree(lambda x, p, i: keras.ops.slice_update(x, i, p), X, part, at)
