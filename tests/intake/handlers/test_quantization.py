"""Simulated quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from edgepack.errors import ModelError
from tests.intake.handlers.function_graph import FunctionGraph, agree, converted

X = np.random.default_rng(1).uniform(-3, 3, (4, 6)).astype(np.float32)
QUANTIZE = tf.quantization


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("bits", [8, 4, 16])
def test_fake_quantization_agrees(bits: int, narrow: bool) -> None:
    low, high = (
        -np.linspace(0.5, 2, 6).astype(np.float32),
        np.linspace(0.3, 2.5, 6).astype(np.float32),
    )
    how: dict[str, Any] = {"num_bits": bits, "narrow_range": narrow}
    agree(lambda x: QUANTIZE.fake_quant_with_min_max_args(x, -1.7, 2.1, **how), X)
    agree(lambda x: QUANTIZE.fake_quant_with_min_max_vars(x, -1.7, 2.1, **how), X)
    agree(lambda x: QUANTIZE.fake_quant_with_min_max_vars_per_channel(x, low, high, **how), X)


@pytest.mark.parametrize(("low", "high"), [(0.5, 2.1), (-3.0, -0.5)])
def test_a_range_beside_zero_agrees(low: float, high: float) -> None:
    agree(lambda x: QUANTIZE.fake_quant_with_min_max_vars(x, low, high), X)


def test_symmetric_weights_have_zero_point_0_in_int8() -> None:
    model = agree(
        lambda x: QUANTIZE.fake_quant_with_min_max_vars(x, -2.0, 2.0, narrow_range=True), X
    )
    (quantize,) = [n for n in model.graph.node if n.op_type == "QuantizeLinear"]
    (point,) = [i for i in model.graph.initializer if i.name == quantize.input[2]]
    value = onnx.numpy_helper.to_array(point)
    assert (value.dtype, int(value)) == (np.dtype(np.int8), 0)


def test_an_untrained_range_is_refused() -> None:
    graph = FunctionGraph(
        lambda x: QUANTIZE.fake_quant_with_min_max_vars(x, 0.0, 0.0), [X], [[4, 6]]
    )
    with pytest.raises(ModelError, match="range is empty"):
        converted(graph)
