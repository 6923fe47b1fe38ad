"""Operators that are a few lines of arithmetic, and reductions.

Source, unless another is named: TensorFlow 2.21, the operators' documentation in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

_INT64, _FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


def inv(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write 1/x."""
    f = Formula(ctx, node)
    f.finish(f("Reciprocal", f.inputs[0]))


def truncate_div(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x / y rounded towards 0, of floating-point numbers too (where tf2onnx 1.17 does not round)."""
    f = Formula(ctx, node)
    quotient = f("Div", *f.inputs)
    if f.is_float(quotient):
        quotient = f("Mul", f("Sign", quotient), f("Floor", f("Abs", quotient)))
    f.finish(quotient)


def xdivy(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x / y, and 0 where x is 0."""
    f = Formula(ctx, node)
    x, y = f.inputs
    f.finish(f.where(f("Equal", x, 0), 0, f("Div", x, y)))


def mul_no_nan(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x·y, and 0 where y is 0, whatever x is."""
    f = Formula(ctx, node)
    x, y = f.inputs
    f.finish(f.where(f("Equal", y, 0), 0, f("Mul", x, y)))


def atan2(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the angle of the point (x, y); the sign of a zero counts, and infinities are equally far (measured with TensorFlow 2.21).

    tf2onnx 1.17 gives +π for (−1, −0) and NaN for (∞, ∞), and writes an Atan of float64, which onnxruntime 1.32 has no kernel for.
    With an attribute `plain_zeros`, which is ours, −0 counts as 0: the sign of a zero that is a sum depends on the order of summing.
    """
    f = Formula(ctx, node)
    y, x = f.inputs
    if f.dtype(x) != onnx.TensorProto.DOUBLE:
        y, x = f.cast(y, _FLOAT), f.cast(x, _FLOAT)

    def negative(v: Value) -> Value:
        below = f("Less", v, 0)
        if f.attribute("plain_zeros", 0):
            return below
        return f("Or", below, f("Less", f("Reciprocal", v), 0))  # 1 / −0 is −∞.

    height, width = f("Abs", y), f("Abs", x)
    # Also 0 / 0 and ∞ / ∞, which are taken for 0 and 1.
    slope = f.where(f("Equal", height, width), f("Sign", height), f("Div", height, width))
    angle = f("Atan", f.cast(slope, _FLOAT))
    angle = f.where(negative(x), f("Sub", np.float32(np.pi), angle), angle)
    f.finish(f.where(negative(y), f("Neg", angle), angle))


def approximate_equal(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write |x − y| < tolerance."""
    f = Formula(ctx, node)
    distance = f("Abs", f("Sub", *f.inputs))
    f.finish(f("Less", distance, float(f.attribute("tolerance", 1e-5))))


def l2_loss(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Σx²/2."""
    f = Formula(ctx, node)
    f.finish(f("Mul", f.reduce("ReduceSumSquare", f.inputs[0]), 0.5))


def euclidean_norm(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write √Σx² along axes."""
    f = Formula(ctx, node)
    axes = [int(a) for a in np.ravel(f.known(1, "the axis"))]
    x = f.inputs[0]
    keep = bool(f.attribute("keep_dims", 0))
    if not axes:
        f.finish(f("Abs", x))
        return
    f.finish(f.reduce("ReduceL2", x, *axes, keepdims=keep))


def cross(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the cross product along the last axis, of size 3."""
    f = Formula(ctx, node)
    a, b = f.inputs
    axis = f.rank(a) - 1

    def turned(x: Value, *order: int) -> Value:
        return f("Gather", x, np.array(order, np.int64), axis=axis)

    first = f("Mul", turned(a, 1, 2, 0), turned(b, 2, 0, 1))
    f.finish(f("Sub", first, f("Mul", turned(a, 2, 0, 1), turned(b, 1, 2, 0))))


def sparse_mat_mul(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write SparseMatMul, whose inputs are dense."""
    f = Formula(ctx, node)
    a, b = (
        f("Transpose", x, perm=[1, 0]) if f.attribute(key, 0) else x
        for x, key in zip(f.inputs, ("transpose_a", "transpose_b"), strict=True)
    )
    f.finish(f("MatMul", a, b))


def lin_space(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write `num` numbers from start to stop."""
    f = Formula(ctx, node)
    start, stop, count = f.inputs
    count = f.cast(f.reshape(count), f.dtype(start))
    one = np.array(1, onnx.helper.tensor_dtype_to_np_dtype(f.dtype(start)))
    gaps = f("Max", f("Sub", count, 1), one)
    step = f("Div", f("Sub", stop, start), gaps)
    f.finish(f("Add", start, f("Mul", f.range(count), step)))


def finite(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write IsFinite or IsInf; ONNX 17 has no IsInf of half floats."""
    f = Formula(ctx, node)
    x = (
        f.cast(f.inputs[0], _FLOAT)
        if f.dtype(f.inputs[0]) == onnx.TensorProto.FLOAT16
        else f.inputs[0]
    )
    infinite = f("IsInf", x)
    f.finish(infinite if node.type == "IsInf" else f("Not", f("Or", infinite, f("IsNaN", x))))


def log(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write log x; tf2onnx 1.17 stumbles over half floats."""
    f = Formula(ctx, node)
    f.finish(f("Log", f.inputs[0]))


FAMILY = {
    "ApproximateEqual": approximate_equal,
    "Atan2": atan2,
    "Cross": cross,
    "EuclideanNorm": euclidean_norm,
    "Inv": inv,
    "IsFinite": finite,
    "IsInf": finite,
    "L2Loss": l2_loss,
    "LinSpace": lin_space,
    "Log": log,
    "MulNoNan": mul_no_nan,
    "SparseMatMul": sparse_mat_mul,
    "TruncateDiv": truncate_div,
    "Xdivy": xdivy,
}
