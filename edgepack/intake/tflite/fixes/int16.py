"""16-bit activations, which QuantizeLinear and DequantizeLinear take from opset 21 on only, in plain arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

_WIDE = (TensorProto.INT16, TensorProto.INT64)


def widen_weights(ctx: Any, node: Any) -> None:
    """DEQUANTIZE of an 8-bit weight that meets 16-bit activations → float32, as these activations are.

    onnxruntime fuses DequantizeLinear and a Gemm of float activations into MatMulNBits, which rounds the activations to 8 bits
    (1.32; answers 0.4 % off).
    """
    source = node.inputs[0]
    if source is None or not source.is_const() or "scale" not in node.attr:
        return
    for reader in ctx.find_output_consumers(node.output[0]):
        beside = [ctx.get_dtype(i.input[0]) for i in reader.inputs if i.type == "TFL_DEQUANTIZE"]
        if TensorProto.INT16 in beside:
            _fold(ctx, node)
            return


def quantize_wide(ctx: Any, node: Any) -> None:
    """QUANTIZE to int16 → round(x / scale) + zero point, limited to 16 bits; its DEQUANTIZEs take the float from before the cast.

    Source: https://ai.google.dev/edge/litert/models/quantization_spec.
    """
    if ctx.get_dtype(node.output[0]) not in _WIDE:
        return
    scale, zero = _parameters(ctx, node)
    shape, made = ctx.get_shape(node.output[0]), node.output[0]
    low, high = (_constant(ctx, np.float32(v)) for v in (-32768, 32767))
    ticks = _make(ctx, "Round", [_make(ctx, "Div", [node.input[0], scale], shape)], shape)
    ticks = _make(ctx, "Clip", [_make(ctx, "Add", [ticks, zero], shape), low, high], shape)
    for reader in ctx.find_output_consumers(made):
        if reader.type == "TFL_DEQUANTIZE" and len(reader.get_attr_value("scale", [])) == 1:
            ctx.remove_node(reader.name)
            shifted = _make(ctx, "Sub", [ticks, zero], shape)
            _make(ctx, "Mul", [shifted, scale], shape, made=reader.output[0])
    ctx.remove_node(node.name)
    ctx.make_node(
        "Cast",
        [ticks],
        attr={"to": TensorProto.INT16},
        outputs=[made],
        shapes=[shape],
        dtypes=[TensorProto.INT16],
        skip_conversion=True,
    )


def dequantize_wide(ctx: Any, node: Any) -> None:
    """DEQUANTIZE of int16 or int64 → (x − zero point) · scale in float32; at once for constants, such as 64-bit biases."""
    if ctx.get_dtype(node.input[0]) not in _WIDE or "scale" not in node.attr:
        return
    source, made = node.inputs[0], node.output[0]
    shape = ctx.get_shape(made)
    if source.is_const():
        _fold(ctx, node)
        return
    scale, zero = _parameters(ctx, node)
    wide = _make(ctx, "Cast", [node.input[0]], shape, {"to": TensorProto.FLOAT})
    shifted = _make(ctx, "Sub", [wide, zero], shape)
    ctx.remove_node(node.name)
    _make(ctx, "Mul", [shifted, scale], shape, made=made)


def _fold(ctx: Any, node: Any) -> None:
    value = node.inputs[0].get_tensor_value(as_list=False).astype(np.float64)
    scale, zero = (_along(node, name, value.ndim) for name in ("scale", "zero_point"))
    real = _constant(ctx, ((value - zero) * scale).astype(np.float32))
    ctx.replace_all_inputs(node.output[0], real)
    ctx.remove_node(node.name)


def _parameters(ctx: Any, node: Any) -> tuple[str, str]:
    scale = np.float32(node.get_attr_value("scale")[0])
    zero = np.float32(node.get_attr_value("zero_point")[0])
    return _constant(ctx, scale), _constant(ctx, zero)


def _along(node: Any, name: str, rank: int) -> Any:
    values = np.array(node.get_attr_value(name), np.float64)
    if len(values) == 1:
        return values[0]
    shape = [1] * rank
    shape[node.get_attr_value("quantized_dimension")] = -1
    return values.reshape(shape)


def _constant(ctx: Any, value: Any) -> str:
    from tf2onnx import utils

    return str(ctx.make_const(utils.make_name("constant"), np.asarray(value)).output[0])


def _make(
    ctx: Any, kind: str, inputs: list[str], shape: Any, attr: Any = None, made: str | None = None
) -> str:
    node = ctx.make_node(
        kind,
        inputs,
        attr=attr,
        outputs=[made] if made else None,
        shapes=[shape],
        dtypes=[TensorProto.FLOAT],
        skip_conversion=True,
    )
    return str(node.output[0])
