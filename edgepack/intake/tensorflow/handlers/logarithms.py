"""Log1p, Expm1, Xlogy and Xlog1py: log-mel spectrograms, softplus, entropies.

ONNX has none of them. log(1 + x) and exp(x) − 1 are off by up to a float's step at 1 (6e-8 in float32) near x = 0.

Source: TensorFlow 2.21, documentation of the four operators in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx


def log1p(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write log(1 + x)."""
    (x,) = node.input
    _take_over(ctx, node, "Log", [_plus_one(ctx, node, x)])


def expm1(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write exp(x) − 1."""
    exp = ctx.make_node("Exp", list(node.input)).output[0]
    _take_over(ctx, node, "Sub", [exp, _const(ctx, node, 1)])


def xlogy(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x·log(y), and 0 where x is 0."""
    x, y = node.input
    _times_log(ctx, node, x, y)


def xlog1py(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x·log(1 + y), and 0 where x is 0."""
    x, y = node.input
    _times_log(ctx, node, x, _plus_one(ctx, node, y))


def _times_log(ctx: Any, node: Any, x: str, y: str) -> None:
    zero = _const(ctx, node, 0)
    product = ctx.make_node("Mul", [x, ctx.make_node("Log", [y]).output[0]]).output[0]
    nothing = ctx.make_node("Equal", [x, zero]).output[0]
    _take_over(ctx, node, "Where", [nothing, zero, product])


def _plus_one(ctx: Any, node: Any, x: str) -> str:
    return str(ctx.make_node("Add", [x, _const(ctx, node, 1)]).output[0])


def _const(ctx: Any, node: Any, value: int) -> str:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(ctx.get_dtype(node.input[0]))
    return str(ctx.make_const(f"{node.name}#{value}", np.array(value, dtype)).output[0])


def _take_over(ctx: Any, node: Any, kind: str, inputs: list[str]) -> None:
    """A node with another's name, outputs, shapes and types in its place."""
    name, outputs = node.name, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(name)
    ctx.make_node(kind, inputs, name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)
