"""CumulativeLogsumexp: running log-probabilities. A CumSum of exponentials would lose what lies far below a row's greatest.

Source: TensorFlow 2.21, documentation of CumulativeLogsumexp in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

#: Rows up to this length, and those of a free one, are written as a square: 10 nodes, where a row of 64 by doubling takes 60.
SQUARE_UP_TO = 64


def cumulative_logsumexp(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write log Σ exp(x) over all that stand before, with the greatest of those taken out, so that nothing under- or overflows.

    Memory: in proportion to the tensor if the axis has a known size, else (and up to `SQUARE_UP_TO`) to the tensor times that size.
    """
    f = Formula(ctx, node)
    x, rank = f.inputs[0], f.rank(f.inputs[0])
    axis = int(f.known(1, "the axis")) % rank
    order = [*(i for i in range(rank) if i != axis), axis]
    x = f("Transpose", x, perm=order)
    length = f.shape(x)[-1]
    square = length is None or length <= SQUARE_UP_TO
    result = _in_a_square(f, x) if square else _by_doubling(f, x, int(length or 0))
    f.finish(f("Transpose", result, perm=[order.index(i) for i in range(rank)]))


def _in_a_square(f: Formula, x: Value) -> Value:
    """Each sum by itself, along an axis more."""
    rank = f.rank(x)
    place = f.range(f.size(x, rank - 1))
    ends = [f.unsqueeze(place, 1), f.unsqueeze(place, 0)]
    if f.attribute("reverse", 0):
        ends.reverse()
    counts = f("Greater" if f.attribute("exclusive", 0) else "GreaterOrEqual", *ends)
    square = f.where(counts, f.unsqueeze(x, rank - 1), _number(f, x, -np.inf))
    top = f.reduce("ReduceMax", square, rank, keepdims=True)
    top = f("Max", top, _lowest(f, x))
    total = f.reduce("ReduceSum", f("Exp", f("Sub", square, top)), rank)
    return f("Add", f("Log", total), f.squeeze(top, rank))


def _by_doubling(f: Formula, x: Value, length: int) -> Value:
    """Sums of 1, 2, 4 … neighbours, each of two that are half as long (the scan of Hillis and Steele)."""
    x = _shifted(f, x, 1) if f.attribute("exclusive", 0) else x
    distance = 1
    while distance < length:
        other = _shifted(f, x, distance)
        top = f("Max", x, other, _lowest(f, x))
        total = f("Add", f("Exp", f("Sub", x, top)), f("Exp", f("Sub", other, top)))
        x = f("Add", f("Log", total), top)
        distance *= 2
    return x


def _shifted(f: Formula, x: Value, distance: int) -> Value:
    """Each number that stands `distance` before (after, if it runs in reverse), and −∞ where there is none."""
    axis = f.rank(x) - 1
    pads = np.zeros(2 * (axis + 1), np.int64)
    if f.attribute("reverse", 0):
        kept = f.slice(x, distance, int(np.iinfo(np.int64).max), axis)
        pads[-1] = distance
    else:
        kept = f.slice(x, 0, -distance, axis)
        pads[axis] = distance
    return f("Pad", kept, pads, _number(f, x, -np.inf))


def _lowest(f: Formula, x: Value) -> Value:
    """The least finite number: −∞ − −∞ is NaN."""
    dtype = onnx.helper.tensor_dtype_to_np_dtype(f.dtype(x))
    return _number(f, x, np.finfo(dtype).min)


def _number(f: Formula, x: Value, number: float) -> Value:
    return np.array(number, onnx.helper.tensor_dtype_to_np_dtype(f.dtype(x)))


FAMILY = {"CumulativeLogsumexp": cumulative_logsumexp}
