"""Places in sorted lists, ranks and one-hot rows.

Source, unless another is named: TensorFlow 2.21, the operators' documentation in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

_INT64, _FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


def one_hot(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write OneHot: nothing is on for a negative index (ONNX counts it from the end), and indices may have any rank and type."""
    f = Formula(ctx, node)
    indices, depth, on, off = f.inputs
    indices, depth = f.cast(indices, _INT64), f.cast(depth, _INT64)
    indices = f.where(f("Less", indices, 0), depth, indices)
    axis = int(f.attribute("axis", -1))
    on_off = (f.unsqueeze(off, 0), f.unsqueeze(on, 0))
    if f.dtype(on) in (_FLOAT, _INT64):  # What onnxruntime's OneHot writes for int64 indices.
        f.finish(f("OneHot", indices, f.reshape(depth, 1), f("Concat", *on_off, axis=0), axis=axis))
        return
    hot = f("OneHot", indices, f.reshape(depth, 1), np.array([0, 1], np.float32), axis=axis)
    hot = f("Greater", hot, 0.5)
    if f.dtype(on) == onnx.TensorProto.BOOL:  # onnxruntime has no Where for it.
        f.finish(f("Or", f("And", hot, on), f("And", f("Not", hot), off)))
        return
    f.finish(f.where(hot, on, off))


def bucketize(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Bucketize: how many boundaries are not greater than each number."""
    f = Formula(ctx, node)
    x = f.cast(f.inputs[0], _FLOAT)
    boundaries = np.array(f.attribute("boundaries", []), np.float32)
    if boundaries.size == 0:
        f.finish(f.cast(f("Mul", x, 0), onnx.TensorProto.INT32))
        return
    passed = f("GreaterOrEqual", f.unsqueeze(x, -1), boundaries)
    f.finish(_count(f, passed))


def lower_bound(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write LowerBound: how many of a sorted row are less than each number."""
    _bound(Formula(ctx, node), "Less")


def upper_bound(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write UpperBound: how many of a sorted row are not greater than each number."""
    _bound(Formula(ctx, node), "LessOrEqual")


def in_top_k(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write InTopKV2: fewer than k numbers of the row exceed the target's, and all are finite.

    Source: TensorFlow 2.21, core/kernels/in_topk_op.h.
    """
    f = Formula(ctx, node)
    rows, targets, k = f.inputs
    targets, k = f.cast(targets, _INT64), f.cast(k, _INT64)
    classes = f.size(rows, 1)
    inside = f("And", f("GreaterOrEqual", targets, 0), f("Less", targets, classes))
    safe = f.where(inside, targets, 0)
    own = f("GatherElements", rows, f.unsqueeze(safe, 1), axis=1)
    above = f.reduce("ReduceSum", f.cast(f("Greater", rows, own), _INT64), 1)
    finite = f.cast(f("Less", f("Abs", rows), np.array(np.inf, np.float32)), onnx.TensorProto.INT32)
    all_finite = f("Greater", f.reduce("ReduceMin", finite, 1), 0)
    f.finish(f("And", f("And", f("Less", above, k), inside), all_finite))


def nth_element(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write NthElement: the n-th smallest of each row, or the n-th largest."""
    f = Formula(ctx, node)
    rows, n = f.inputs
    n = f.cast(n, _INT64)
    largest = int(f.attribute("reverse", 0))
    sorted_rows = f.several(2, "TopK", rows, f.reshape(f("Add", n, 1), 1), largest=largest)[0]
    f.finish(f("Gather", sorted_rows, n, axis=-1))


def approx_top_k(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ApproxTopK with TopK, whose recall is 1."""
    f = Formula(ctx, node)
    axis, k = int(f.attribute("reduction_dimension", -1)), int(f.attribute("k"))
    largest = int(f.attribute("is_max_k", 1))
    f.finish(
        *f.several(2, "TopK", f.inputs[0], np.array([k], np.int64), axis=axis, largest=largest)
    )


def invert_permutation(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write InvertPermutation: i at the place that x[i] names."""
    f = Formula(ctx, node)
    x = f.cast(f.inputs[0], _INT64)
    f.finish(f("ScatterElements", x, x, f.range(f.size(x, 0)), axis=0))


def histogram(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write HistogramFixedWidth: how many numbers fall into each of `nbins` equal parts of a range; what is outside counts at the ends."""
    f = Formula(ctx, node)
    values, limits, bins = f.inputs
    bins = f.cast(bins, _INT64)
    low, high = (f("Gather", limits, np.array(i, np.int64)) for i in (0, 1))
    step = f("Div", f("Sub", high, low), f.cast(bins, f.dtype(values)))
    place = f("Floor", f("Div", f("Sub", f.reshape(values, -1), low), step))
    last = f.cast(f("Sub", bins, 1), f.dtype(values))
    place = f.cast(f("Min", f("Max", place, f("Sub", last, last)), last), _INT64)
    found = f("Equal", f.unsqueeze(f.range(bins), -1), place)
    f.finish(_count(f, found))


def list_diff(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ListDiff: what of x is not in y, and where it stands."""
    f = Formula(ctx, node)
    x, y = f.inputs
    same = f.cast(f("Equal", f.unsqueeze(x, 1), f.unsqueeze(y, 0)), _FLOAT)
    alone = f("Equal", f.reduce("ReduceSum", same, 1), 0)
    f.finish(f("Compress", x, alone, axis=0), f.squeeze(f("NonZero", alone), 0))


def _bound(f: Formula, comparison: str) -> None:
    rows, values = f.inputs
    passed = f(comparison, f.unsqueeze(rows, 1), f.unsqueeze(values, 2))
    f.finish(_count(f, passed))


def _count(f: Formula, flags: Value) -> Value:
    """How many are true along the last axis."""
    return f.reduce("ReduceSum", f.cast(flags, onnx.TensorProto.INT32), f.rank(flags) - 1)


FAMILY = {
    "ApproxTopK": approx_top_k,
    "Bucketize": bucketize,
    "HistogramFixedWidth": histogram,
    "InTopKV2": in_top_k,
    "InvertPermutation": invert_permutation,
    "ListDiff": list_diff,
    "LowerBound": lower_bound,
    "NthElement": nth_element,
    "OneHot": one_hot,
    "UpperBound": upper_bound,
}
