"""Operators that are a line of arithmetic, and special functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

X = np.random.default_rng(1).uniform(-3, 3, (2, 6)).astype(np.float32)
Y = np.random.default_rng(2).uniform(-3, 3, (2, 6)).astype(np.float32)
ZEROS = np.array([0, 1, 0, -1.0, 2, 0], np.float32)
POSITIVE = np.array([1e-3, 0.1, 0.49, 0.5, 1, 1.5, 2, 10, 500], np.float32)
NEGATIVE = np.array([-0.3, -1.5, -4.7], np.float32)
RAW = tf.raw_ops


@pytest.mark.parametrize(
    ("function", "feeds"),
    [
        (lambda x: RAW.Inv(x=x), [X]),
        (tf.truncatediv, [X, Y]),
        (tf.truncatediv, [np.array([-7, 7], np.int32), np.array([2, -2], np.int32)]),
        (tf.math.xdivy, [ZEROS, ZEROS]),
        (tf.math.multiply_no_nan, [ZEROS, ZEROS]),
        (lambda x, y: RAW.ApproximateEqual(x=x, y=y, tolerance=0.5), [X, Y]),
        (tf.nn.l2_loss, [X]),
        (lambda x: tf.math.reduce_euclidean_norm(x, 1), [X]),
        (lambda x: tf.math.cumulative_logsumexp(x, 1, exclusive=True, reverse=True), [X]),
        (tf.linalg.cross, [X[:, :3].copy(), Y[:, :3].copy()]),
        (lambda a, b: RAW.SparseMatMul(a=a, b=b, transpose_b=True), [X, Y]),
        (lambda a, n: RAW.LinSpace(start=a, stop=3.0, num=n), [np.float32(1), np.int32(5)]),
        (tf.math.is_finite, [np.array([np.inf, np.nan, 1], np.float16)]),
        (tf.math.is_inf, [np.array([np.inf, np.nan, 1], np.float16)]),
        (tf.math.log, [np.abs(X).astype(np.float64)]),
    ],
)
def test_it_agrees(function: Any, feeds: list[Any]) -> None:
    agree(function, *feeds)


@pytest.mark.parametrize("x", [POSITIVE, NEGATIVE], ids=["positive", "negative"])
@pytest.mark.parametrize("function", [tf.math.lgamma, tf.math.digamma])
def test_gamma_functions_agree_on_both_sides_of_zero(function: Any, x: Any) -> None:
    agree(function, x)


def test_quantiles_agree_far_out() -> None:
    agree(tf.math.erfinv, np.array([-1, -0.999, -0.5, 0, 1e-4, 0.97, 1], np.float32))
    agree(tf.math.ndtri, np.array([1e-6, 0.01, 0.5, 0.97, 0.999], np.float32))


@pytest.mark.parametrize("function", [tf.atan, tf.cosh, tf.math.erf, tf.math.softplus, tf.nn.elu])
def test_float64_functions_without_kernels_agree(function: Any) -> None:
    agree(function, X.astype(np.float64))


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_angles_agree_in_all_quadrants_on_the_axes_and_at_infinity(dtype: str) -> None:
    numbers = np.array([0.0, -0.0, 1, -1, 2.5, -7, np.inf, -np.inf, np.nan], dtype)
    y, x = np.meshgrid(numbers, numbers)
    agree(tf.atan2, y, x)
    agree(lambda a: tf.atan2(a, np.array(-0.0, dtype)), numbers)


def test_angles_of_float64_beyond_float32_agree() -> None:
    agree(tf.atan2, np.array([1e300, -2e-300, 0.0]), np.array([-3e300, 1e-300, -1e-300]))


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_running_logsumexp_keeps_what_is_far_below(
    exclusive: bool, reverse: bool, axis: int
) -> None:
    x = np.array([[-200, 0, 300], [-300, -500, -200], [50, 90, -120]], np.float32)
    agree(lambda a: tf.math.cumulative_logsumexp(a, axis, exclusive, reverse), x)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_long_running_logsumexp_takes_no_square_of_its_length(
    exclusive: bool, reverse: bool
) -> None:
    length = 1000
    x = np.random.default_rng(1).uniform(-300, 300, (2, length, 3)).astype(np.float32)
    model = agree(lambda a: tf.math.cumulative_logsumexp(a, 1, exclusive, reverse), x)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph.value_info
    sizes = [
        np.prod([d.dim_value for d in v.type.tensor_type.shape.dim], dtype=int) for v in inferred
    ]
    assert len(sizes) > 10
    assert max(sizes) == x.size
