"""FloorDiv and FloorMod round down, integers too; TruncateMod is what is left of a division that rounds towards 0.

tf2onnx 1.17 writes ONNX's Div, which drops the fraction, so −7 // 3 gives −2: tf.signal.overlap_and_add counts its segments as −(−length // step).

Source: TensorFlow 2.21, documentation of FloorDiv, FloorMod and TruncateMod in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
_UNSIGNED = (
    onnx.TensorProto.UINT8,
    onnx.TensorProto.UINT16,
    onnx.TensorProto.UINT32,
    onnx.TensorProto.UINT64,
)


def floor_div(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write floor(x / y)."""
    _take_over(ctx, node, "Identity", [_quotient(ctx, node)])


def floor_mod(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x − floor(x / y)·y."""
    x, y = node.input
    product = ctx.make_node("Mul", [_quotient(ctx, node), y]).output[0]
    _take_over(ctx, node, "Sub", [x, product])


def truncate_mod(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write C's x % y, or fmod(x, y)."""
    x, y = node.input
    if ctx.get_dtype(x) in _FLOATS:
        node.type = "Mod"
        node.set_attr("fmod", 1)
        return
    quotient = ctx.make_node("Div", [x, y]).output[0]
    product = ctx.make_node("Mul", [quotient, y]).output[0]
    _take_over(ctx, node, "Sub", [x, product])


def _quotient(ctx: Any, node: Any) -> str:
    x, y = node.input
    dtype = ctx.get_dtype(x)

    def make(kind: str, *inputs: str, **attributes: int) -> str:
        return str(ctx.make_node(kind, list(inputs), attr=attributes).output[0])

    quotient = make("Div", x, y)
    if dtype in _FLOATS:
        return make("Floor", quotient)
    if dtype in _UNSIGNED:
        return quotient
    # One less where the signs differ and there is a remainder. ONNX's Mod would do, but TensorRT 8.5 does not have it.
    zero = ctx.make_const(
        f"{node.name}#zero", np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(dtype))
    ).output[0]
    differ = make("Xor", make("Less", x, zero), make("Less", y, zero))
    remainder = make("Not", make("Equal", make("Mul", quotient, y), x))
    return make("Sub", quotient, make("Cast", make("And", differ, remainder), to=dtype))


def _take_over(ctx: Any, node: Any, kind: str, inputs: list[str]) -> None:
    """A node with another's name, outputs, shapes and types in its place."""
    name, outputs = node.name, node.output
    shapes, dtypes = node.output_shapes, node.output_dtypes
    ctx.remove_node(name)
    ctx.make_node(kind, inputs, name=name, outputs=outputs, shapes=shapes, dtypes=dtypes)
