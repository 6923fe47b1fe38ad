"""Bitwise operators on every kind of integer."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

SIGNED_ZEROS = np.array([[0.0, -0.0, -1, 2], [-0.0, 0.0, -3, -0.0]], np.float32)

TYPES = ("int8", "uint8", "int16", "int32", "int64")


@pytest.mark.parametrize("dtype", TYPES)
def test_bitwise_operators_agree_on_the_ends_of_the_type(dtype: str) -> None:
    ends = np.iinfo(dtype)
    x = np.array([ends.min, ends.max, 5, 0, ends.max - 3, 77], dtype)
    y = np.array([3, 6, ends.max, ends.min, 1, ends.min + 9], dtype)
    bits = tf.bitwise
    agree(
        lambda a, b: (bits.bitwise_and(a, b), bits.bitwise_or(a, b), bits.bitwise_xor(a, b)), x, y
    )
    agree(lambda a: (bits.invert(a), tf.raw_ops.PopulationCount(x=a)), x)


@pytest.mark.parametrize("dtype", TYPES)
def test_shifts_keep_the_sign_and_drop_what_overflows(dtype: str) -> None:
    ends = np.iinfo(dtype)
    x = np.array([ends.min, ends.max, 5, 100], dtype)
    n = np.array([1, 2, 0, 3], dtype)
    agree(lambda a, b: (tf.bitwise.left_shift(a, b), tf.bitwise.right_shift(a, b)), x, n)


def test_the_sign_of_zero_is_read() -> None:
    agree(keras.ops.signbit, SIGNED_ZEROS)
    agree(lambda x: (keras.ops.argmax(x, 1), keras.ops.argmin(x, 1)), SIGNED_ZEROS)
