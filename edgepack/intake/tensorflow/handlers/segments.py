"""Segment reductions with empty segments or negative ids, and scattering to a place more than once.

tf2onnx 1.17 leaves ±∞ (maximum, minimum) or NaN (mean) in empty segments, counts a negative id from the end, and lets the last of several
scattered values win where TensorFlow adds them.

Source: TensorFlow 2.21, documentation in tf.raw_ops of SegmentMax ("If the max is empty … output[i] = 0"), UnsortedSegmentMax and ScatterNd.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value, original

_INT64 = onnx.TensorProto.INT64


def segment(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write SegmentMax, SegmentMin or SegmentMean: 0 for an empty segment."""
    f = Formula(ctx, node)
    data, ids = f.inputs
    result = _by_tf2onnx(f, [data, ids])
    f.finish(_filled(f, result, ids))


def unsorted_segment(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write an UnsortedSegment…: negative ids are dropped, and empty maxima and minima are the ends of the type."""
    f = Formula(ctx, node)
    data, ids, count = f.inputs
    ids, count = f.cast(ids, _INT64), f.cast(count, _INT64)
    negative = isinstance(ids, str) or bool((ids < 0).any())
    kind = node.type
    if negative:  # They make a segment more, which is cut off.
        ids = f.where(f("Less", ids, 0), count, ids)
        result = _by_tf2onnx(f, [data, ids, f("Add", count, 1)])
    else:
        result = _by_tf2onnx(f, [data, ids, count])
    dtype = onnx.helper.tensor_dtype_to_np_dtype(f.dtype(data))
    if kind.endswith(("Max", "Min")) and f.is_float(data):
        # TensorFlow begins with the end of the type, so −∞ never is a maximum.
        ends = np.finfo(dtype)
        bound = ends.min if kind.endswith("Max") else ends.max
        result = f(kind[-3:], result, np.array(bound, dtype))
    if negative:
        ends_at = f.reshape(count, 1)
        zero = np.zeros(1, np.int64)
        result = f("Slice", result, zero, ends_at, zero)
    f.finish(result)


def scatter_nd(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ScatterNd, which adds what falls on one place; a plain ScatterND where the indices are known to differ."""
    f = Formula(ctx, node)
    indices, updates, shape = f.inputs
    dtype = f.dtype(updates)
    zeros = f(
        "ConstantOfShape",
        f.cast(shape, _INT64),
        value=onnx.helper.make_tensor("value", dtype, [1], [0]),
    )
    indices = f.cast(indices, _INT64)
    adds = dtype != onnx.TensorProto.BOOL
    if not isinstance(indices, str):
        rows = indices.reshape(-1, indices.shape[-1])
        adds = adds and len(np.unique(rows, axis=0)) < len(rows)
    attributes = {"reduction": "add"} if adds else {}
    f.finish(f("ScatterND", zeros, indices, updates, **attributes))


def bincount(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write DenseBincount; with weights, their sums, which tf2onnx does not do."""
    from tf2onnx.onnx_opset.tensor import Bincount

    f = Formula(ctx, node)
    values, size, weights = f.inputs
    if f.attribute("binary_output", 0) or f.shape(weights) == [0]:
        original(ctx, node, Bincount)
        return
    bins = f.range(f.cast(size, _INT64))
    here = f("Equal", f.unsqueeze(f.cast(values, _INT64), f.rank(values)), bins)
    share = f("Mul", f.cast(here, f.dtype(weights)), f.unsqueeze(weights, f.rank(weights)))
    f.finish(f.reduce("ReduceSum", share, f.rank(values) - 1))


def _by_tf2onnx(f: Formula, inputs: list[Value]) -> Value:
    """What tf2onnx's own handler makes of the node, with these inputs."""
    from tf2onnx.onnx_opset.reduction import SegmentSum

    names = [f.name(i) for i in inputs]
    shape = [-1, *(f.ctx.get_shape(names[0]) or [-1])[1:]]
    dtype = f.dtype(inputs[0])
    inner = f.ctx.make_node(
        f.node.type, names, shapes=[shape], dtypes=[dtype], infer_shape_dtype=False
    )
    # It puts its result where its output is read: there must be a reader.
    end = f.ctx.make_node("Identity", [inner.output[0]], shapes=[shape], dtypes=[dtype])
    original(f.ctx, inner, SegmentSum)
    return str(end.output[0])


def _filled(f: Formula, result: Value, ids: Value) -> Value:
    """`result` with 0 in the segments that no id names."""
    ids = f.cast(ids, _INT64)
    count = f.slice(f("Shape", result), 0, 1, 0)
    nothing = f("ConstantOfShape", count, value=onnx.helper.make_tensor("value", _INT64, [1], [0]))
    one = f(
        "ConstantOfShape", f("Shape", ids), value=onnx.helper.make_tensor("value", _INT64, [1], [1])
    )
    present = f.cast(f("ScatterElements", nothing, ids, one, axis=0), onnx.TensorProto.BOOL)
    present = f.reshape(present, -1, *[1] * (f.rank(result) - 1))
    return f.where(present, result, 0)


FAMILY = {
    "DenseBincount": bincount,
    "ScatterNd": scatter_nd,
    "SegmentMax": segment,
    "SegmentMean": segment,
    "SegmentMin": segment,
    "UnsortedSegmentMax": unsorted_segment,
    "UnsortedSegmentMin": unsorted_segment,
    "UnsortedSegmentProd": unsorted_segment,
    "UnsortedSegmentSum": unsorted_segment,
}
