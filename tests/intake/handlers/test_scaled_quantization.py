"""Simulated quantization by a scale alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from edgepack.errors import ModelError
from tests.intake.handlers.function_graph import FunctionGraph, agree, converted

#: Beyond the ranges on both sides, and lopsided, so that the sides differ.
X = np.random.default_rng(1).uniform(-3, 2.5, (5, 4, 3)).astype(np.float32)
LOW, HIGH = np.array([-1.7, -2, -0.2], np.float32), np.array([1.1, 2.2, 0.5], np.float32)
RAW = tf.raw_ops


def by(version: int, x: Any, low: Any, high: Any, bits: int = 8, **how: Any) -> Any:
    """QuantizeAndDequantizeV2, V3 or V4; V3 has its bits in a tensor."""
    arguments = {"input": x, "input_min": low, "input_max": high, "num_bits": bits, **how}
    return getattr(RAW, f"QuantizeAndDequantizeV{version}")(**arguments)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_given_range_agrees(version: int, bits: int, narrow: bool, signed: bool) -> None:
    how = {"signed_input": signed, "narrow_range": narrow, "range_given": True}
    # Either end may be the one that says how long a step is.
    agree(lambda x: by(version, x, -1.7, 1.1, bits, **how), X)
    agree(lambda x: by(version, x, -1.1, 1.7, bits, **how), X)


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("version", [2, 3, 4])
def test_a_range_found_in_the_tensor_agrees(
    version: int, bits: int, narrow: bool, signed: bool
) -> None:
    how = {"signed_input": signed, "narrow_range": narrow, "range_given": False}
    x = X if signed else np.abs(X)
    agree(lambda x: by(version, x, 0.0, 0.0, bits, **how), x)
    agree(lambda x: by(version, x, LOW, HIGH, bits, axis=1, **how), x[:, :3])


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("axis", [1, 2])
def test_channels_agree(axis: int, bits: int, narrow: bool) -> None:
    """With V3: TensorFlow 2.21 has no kernel for given ranges of channels in V2 and V4 on a CPU."""
    how = {"range_given": True, "narrow_range": narrow, "axis": axis}
    agree(lambda x: by(3, x, LOW, HIGH, bits, **how), X[:, :3])


@pytest.mark.parametrize("given", [True, False])
def test_halves_go_up_if_they_should(given: bool) -> None:
    halves = np.array([-128, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 127], np.float32)
    how = {"range_given": given, "round_mode": "HALF_UP"}
    agree(lambda x: by(4, x, -128.0, 127.0, **how), halves)
    agree(lambda x: by(4, x, -128.0, 127.0, range_given=given), halves)


def test_a_range_computed_at_run_time_agrees() -> None:
    agree(lambda x, low, high: by(4, x, low, high, range_given=True), X, LOW[0], HIGH[0])


@pytest.mark.parametrize("given", [True, False])
def test_nothing_but_zeros_agrees(given: bool) -> None:
    agree(lambda x: by(4, x, 0.0, 0.0, range_given=given), np.zeros((2, 3), np.float32))
    agree(lambda x: by(3, x, 0 * LOW, 0 * LOW, range_given=given, axis=1), X[:, :3] * 0)


@pytest.mark.parametrize("given", [True, False])
def test_float64_agrees(given: bool) -> None:
    agree(lambda x: by(4, x, -1.7, 1.1, range_given=given), X.astype(np.float64))


def test_eight_bits_are_quantize_linear_and_dequantize_linear() -> None:
    def kinds(**how: Any) -> set[str]:
        return {n.op_type for n in agree(lambda x: by(4, x, -1.7, 1.1, **how), X).graph.node}

    plain = {"QuantizeLinear", "DequantizeLinear"}
    assert kinds(range_given=True) == plain
    assert kinds(range_given=True, narrow_range=True) == plain | {"Max"}
    assert not kinds(range_given=True, num_bits=4) & plain


def test_one_bit_with_a_sign_is_refused() -> None:
    graph = FunctionGraph(lambda x: by(4, x, -1.0, 1.0, 1, range_given=True), [X], [X.shape])
    with pytest.raises(ModelError, match="1 bit with a sign"):
        converted(graph)


def test_bits_computed_at_run_time_are_refused() -> None:
    graph = FunctionGraph(
        lambda x, n: RAW.QuantizeAndDequantizeV3(
            input=x, input_min=-1.0, input_max=1.0, num_bits=n
        ),
        [X, np.array(8, np.int32)],
        [X.shape, []],
    )
    with pytest.raises(ModelError, match="the number of bits is computed at run time"):
        converted(graph)
