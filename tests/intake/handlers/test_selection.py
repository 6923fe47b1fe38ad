"""Choosing between two tensors."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

X = np.array([[0, -1, 2], [np.inf, np.nan, 1]], np.float32)


def test_what_is_not_chosen_does_not_spoil_the_answer() -> None:
    agree(lambda x: tf.where(x > 0, tf.math.log(x), 0.0), X)
    agree(lambda x: tf.where(x > 1.5, x, 1 / x), X)


@pytest.mark.parametrize(
    "dtype", ["float16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "bool"]
)
def test_every_type_agrees(dtype: str) -> None:
    a = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
    agree(lambda c, x: tf.where(c, x, x[:, :1]), np.array([True, False, True]), a)


def test_a_vector_chooses_rows() -> None:
    agree(lambda c, x: tf.compat.v1.where(c, x, -x), np.array([True, False]), X)
