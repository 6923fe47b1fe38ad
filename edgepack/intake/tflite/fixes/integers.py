"""Operators whose kernels compute with a quantized tensor's integers as they are, without a look at scale and zero point."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

#: What `on_integers` is for: kernels that fill with 0, add, negate or cast the integers.
#: Source: tensorflow/lite/kernels: scatter_nd.cc (and internal/reference/scatter_nd.h), matrix_diag.cc, sparse_to_dense.cc, cast.cc;
#: NEG as TensorFlow 2.21 answers it.
ON_INTEGERS = ("SCATTER_ND", "SPARSE_TO_DENSE", "MATRIX_DIAG", "NEG", "CAST")
_NARROW = (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16, TensorProto.UINT16)


def on_integers(ctx: Any, node: Any) -> None:
    """The same operator on int32, between casts, instead of on real values, between DequantizeLinear and QuantizeLinear.

    A 0 that such a kernel fills in stands for (0 − zero point) · scale. The cast back drops the higher bits, as the kernels' own
    arithmetic does. Source: https://onnx.ai/onnx/operators/onnx__Cast.html, "fixed point → fixed point: when out of range".
    """
    # tf2onnx gives these names to what it puts around an operator; `name_tensors` gives the file's own tensors others.
    inputs = list(node.input)
    for place, source in enumerate(node.inputs):
        quantized = source is not None and source.output[0].endswith("_dequant")
        if quantized and ctx.get_dtype(source.input[0]) in _NARROW:
            inputs[place] = source.input[0]
    narrow = {ctx.get_dtype(new) for new, old in zip(inputs, node.input, strict=True) if new != old}
    after = ctx.find_output_consumers(node.output[0])
    written = node.output[0].endswith("_prequant")
    written = written and ctx.get_dtype(after[0].output[0]) in _NARROW
    if not narrow and not written:
        return
    for place, (new, old) in enumerate(zip(inputs, node.input, strict=True)):
        if new != old or ctx.get_dtype(old) in narrow:
            inputs[place] = _cast(ctx, new, TensorProto.INT32)
    ctx.replace_inputs(node, inputs)
    if written:
        wide, made = node.output[0], after[0].output[0]
        dtype = ctx.get_dtype(made)
        ctx.set_dtype(wide, TensorProto.INT32)
        ctx.remove_node(after[0].name)
        _cast(ctx, wide, dtype, made)


def long_indices(ctx: Any, node: Any) -> None:
    """SPARSE_TO_DENSE with indices [count, rank] and a shape of int64, as ONNX has them.

    TFLite takes int32 too, a list of indices for one dimension, and one value as a scalar (sparse_to_dense.cc);
    tf2onnx 1.17 hands them to Expand and ScatterND as they are.
    """
    indices, shape, values, default = node.input
    if ctx.get_dtype(shape) != TensorProto.INT64:
        shape = _cast(ctx, shape, TensorProto.INT64)
    if ctx.get_dtype(indices) != TensorProto.INT64:
        indices = _cast(ctx, indices, TensorProto.INT64)
    if ctx.get_rank(indices) == 1:
        indices = _reshaped(ctx, indices, [ctx.get_shape(indices)[0], 1])
    if ctx.get_rank(values) == 0:
        values = _reshaped(ctx, values, [1])
    ctx.replace_inputs(node, [indices, shape, values, default])


def _cast(ctx: Any, value: str, dtype: int, made: str | None = None) -> str:
    node = ctx.make_node(
        "Cast",
        [value],
        attr={"to": dtype},
        outputs=[made] if made else None,
        shapes=[ctx.get_shape(value)],
        dtypes=[dtype],
        skip_conversion=True,
    )
    return str(node.output[0])


def _reshaped(ctx: Any, value: str, shape: list[int]) -> str:
    from tf2onnx import utils

    wanted = ctx.make_const(utils.make_name("shape"), np.array(shape, np.int64)).output[0]
    dtype = ctx.get_dtype(value)
    node = ctx.make_node(
        "Reshape", [value, wanted], shapes=[shape], dtypes=[dtype], skip_conversion=True
    )
    return str(node.output[0])
