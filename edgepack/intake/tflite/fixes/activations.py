"""TFLite activations that tf2onnx 1.17 does not know."""

from __future__ import annotations

from typing import Any

import numpy as np


def _constant(ctx: Any, value: float) -> str:
    from tf2onnx import utils

    return str(ctx.make_const(utils.make_name("constant"), np.array(value, np.float32)).output[0])


def gelu(ctx: Any, node: Any, name: str, args: Any) -> None:
    """GELU → x · (1 + erf(x / √2)) / 2, or with `approximate` x · (1 + tanh(√(2/π) · (x + 0.044715 x³))) / 2.

    ONNX has Gelu from opset 20 on. Source: tensorflow/lite/kernels/internal/reference/gelu.h.
    """
    x, approximate = node.input[0], bool(node.get_attr_value("approximate", 0))
    if approximate:
        cube = ctx.make_node("Mul", [ctx.make_node("Mul", [x, x]).output[0], x]).output[0]
        small = ctx.make_node("Mul", [cube, _constant(ctx, 0.044715)]).output[0]
        inner = ctx.make_node("Add", [x, small]).output[0]
        scaled = ctx.make_node("Mul", [inner, _constant(ctx, np.sqrt(2 / np.pi))]).output[0]
        curve = ctx.make_node("Tanh", [scaled]).output[0]
    else:
        scaled = ctx.make_node("Mul", [x, _constant(ctx, np.sqrt(0.5))]).output[0]
        curve = ctx.make_node("Erf", [scaled]).output[0]
    half = ctx.make_node("Mul", [x, _constant(ctx, 0.5)]).output[0]
    factor = ctx.make_node("Add", [curve, _constant(ctx, 1.0)]).output[0]
    _replace(ctx, node, "Mul", [half, factor])


def clip(low: float, high: float) -> Any:
    """A handler that limits its input: RELU_N1_TO_1 is −1 … 1, RELU_0_TO_1 is 0 … 1."""

    def limit(ctx: Any, node: Any, name: str, args: Any) -> None:
        bounds = [_constant(ctx, low), _constant(ctx, high)]
        _replace(ctx, node, "Clip", [node.input[0], *bounds])

    return limit


def _replace(ctx: Any, node: Any, kind: str, inputs: list[str]) -> None:
    """Put an ONNX node in a node's place; what it makes keeps its name."""
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(node.name)
    ctx.make_node(kind, inputs, outputs=node.output, shapes=shapes, dtypes=dtypes)
