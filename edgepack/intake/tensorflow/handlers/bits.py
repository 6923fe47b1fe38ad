"""Bitwise operators on integers, which ONNX has from opset 18 on, and shifts of signed ones, which it never has.

A shift by less than 0 or by all bits is what TensorFlow leaves to the implementation.

Source: TensorFlow 2.21, the operators' documentation in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

_INT64 = onnx.TensorProto.INT64


def bitwise(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write BitwiseAnd, BitwiseOr or BitwiseXor: on the bits as 0 and 1 in an axis of their own."""
    f = Formula(ctx, node)
    if node.type == "BitwiseAnd" and _is_sign_bit(f):
        lowest = f.inputs[1]
        f.finish(f.where(f("Less", f.cast(f.inputs[0], _INT64), 0), lowest, 0))
        return
    a, b = (_bits(f, x) for x in f.inputs)
    both = f("Mul", a, b)
    if node.type == "BitwiseAnd":
        f.finish(_whole(f, both))
        return
    either = f("Sub", f("Add", a, b), both)
    f.finish(_whole(f, either if node.type == "BitwiseOr" else f("Sub", either, both)))


def bitcast(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write a Bitcast of float32 to int32 that only the sign bit is read of, as in Keras' signbit and argmax; others stay, and are refused."""
    f = Formula(ctx, node)
    x = f.inputs[0]
    readers = ctx.find_output_consumers(node.output[0])
    types = (f.dtype(x), ctx.get_dtype(node.output[0]))
    signs = all(r.type == "BitwiseAnd" and _is_sign_bit(Formula(r.graph, r)) for r in readers)
    if types != (onnx.TensorProto.FLOAT, onnx.TensorProto.INT32) or not readers or not signs:
        return
    zero = f("And", f("Equal", x, 0), f("Less", f("Reciprocal", x), 0))  # 1 / −0 is −∞.
    f.finish(f.where(f("Or", f("Less", x, 0), zero), np.array(-1, np.int32), 0))


def invert(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write all bits turned: −1 − x, or the greatest number − x without a sign."""
    f = Formula(ctx, node)
    x = f.inputs[0]
    limits = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(f.dtype(x)))
    if limits.bits > 32 and limits.min == 0:
        raise f.refusal("64 bits without a sign", "use int64")
    top = -1 if limits.min else limits.max
    f.finish(f("Sub", np.array(top, np.int64), f.cast(x, _INT64)))


def population_count(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write how many bits are 1."""
    f = Formula(ctx, node)
    x = f.inputs[0]
    f.finish(f.reduce("ReduceSum", _bits(f, x), f.rank(x)))


def left_shift(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x·2ⁿ, cut to the type's bits."""
    f = Formula(ctx, node)
    x, n = (f.cast(i, _INT64) for i in f.inputs)
    limits = _limits(f)
    shifted = f("Mul", x, _power(f, n))
    if limits.bits < 64:
        low = limits.min
        span = 2**limits.bits
        turned = f("Sub", shifted, low)
        shifted = f(
            "Add",
            f("Sub", turned, f("Mul", _floor_div(f, turned, np.array(span, np.int64)), span)),
            low,
        )
    f.finish(shifted)


def right_shift(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x / 2ⁿ rounded down: the sign stays."""
    f = Formula(ctx, node)
    x, n = (f.cast(i, _INT64) for i in f.inputs)
    _limits(f)
    f.finish(_floor_div(f, x, _power(f, n)))


def _is_sign_bit(f: Formula) -> bool:
    """Whether the second input is a single number, the one with nothing but its sign bit."""
    mask = f.inputs[1]
    return (
        not isinstance(mask, str)
        and mask.size == 1
        and int(mask.item()) == np.iinfo(mask.dtype).min < 0
    )


def _limits(f: Formula) -> Any:
    limits = np.iinfo(onnx.helper.tensor_dtype_to_np_dtype(f.dtype(f.inputs[0])))
    if limits.bits > 32 and limits.min == 0:
        raise f.refusal("64 bits without a sign", "use int64")
    return limits


def _power(f: Formula, n: Value) -> Value:
    """2ⁿ for 0 ≤ n ≤ 62."""
    return f("Gather", 2 ** np.arange(63, dtype=np.int64), n)


def _floor_div(f: Formula, x: Value, y: Value) -> Value:
    """x / y rounded down, for y > 0."""
    quotient = f("Div", x, y)
    below = f("Less", f("Sub", x, f("Mul", quotient, y)), 0)
    return f("Sub", quotient, f.cast(below, _INT64))


def _bits(f: Formula, x: Value) -> Value:
    """Its bits in a last axis, the lowest first; the highest stands for the sign."""
    limits = _limits(f)
    wide = f.unsqueeze(f.cast(x, _INT64), f.rank(x))
    count = limits.bits - (limits.min != 0)
    steps = 2 ** np.arange(count, dtype=np.int64)
    halves = _floor_div(f, wide, steps)
    lower = f("Sub", halves, f("Mul", _floor_div(f, halves, np.array(2, np.int64)), 2))
    if not limits.min:
        return lower
    return f("Concat", lower, f.cast(f("Less", wide, 0), _INT64), axis=f.rank(x))


def _whole(f: Formula, bits: Value) -> Value:
    limits = _limits(f)
    count = limits.bits - (limits.min != 0)
    weights = [2**i for i in range(count)] + ([limits.min] if limits.min else [])
    axis = f.rank(bits) - 1
    parts = f("Mul", bits, np.array(weights, np.int64))
    # In halves: onnxruntime 1.32 gave 0 for −5 when it summed all 64, as if in float64, which holds 53 bits.
    low = f.reduce("ReduceSum", f.slice(parts, 0, 32, axis), axis)
    if len(weights) <= 32:
        return low
    middle = f.reduce("ReduceSum", f.slice(parts, 32, 63, axis), axis)
    return f("Add", f("Add", low, middle), f.squeeze(f.slice(parts, 63, 64, axis), axis))


FAMILY = {
    "Bitcast": bitcast,
    "BitwiseAnd": bitwise,
    "BitwiseOr": bitwise,
    "BitwiseXor": bitwise,
    "Invert": invert,
    "LeftShift": left_shift,
    "PopulationCount": population_count,
    "RightShift": right_shift,
}
