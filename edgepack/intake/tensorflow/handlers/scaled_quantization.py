"""Simulated quantization by a scale alone, so that 0 stays 0: QuantizeAndDequantizeV2, V3 and V4.

One of tf2onnx 1.17's rewriters takes them before any handler has its turn, and knows 8 bits only; a range that is not given, a narrow one
and rounding up it gets wrong. `EARLY` is what it must not see.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value


def quantize_and_dequantize(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x rounded to whole multiples of a step: QuantizeLinear and DequantizeLinear if int8 or uint8 holds them, else arithmetic.

    Those two divide by the step where TensorFlow multiplies by its inverse: an x within a float's last digit of the middle between two
    multiples may go to the other one (onnxruntime 1.32, ranges ±1 to ±3: 2 to 6 of 4 million uniform x).

    Source: TensorFlow 2.21, core/kernels/quantize_and_dequantize_op.h (the two Impl structs).
    """
    f = Formula(ctx, node)
    x = f.inputs[0]
    first, last = _whole_numbers(f)
    axis = int(f.attribute("axis", -1))
    given = bool(f.attribute("range_given", node.type == "QuantizeAndDequantizeV3"))
    low, high = f.inputs[1:3] if given else _extremes(f, x, axis)
    if axis < 0:
        low, high = (f.reshape(v) if f.rank(v) else v for v in (low, high))
    low, high, scale, step = _steps(f, low, high, first, last)
    up = f.attribute("round_mode", "HALF_TO_EVEN") == "HALF_UP"
    if given and not up and _fits_8_bits(f, step, first, last):
        x = f("Max", x, _along(f, low, x, axis)) if first == -127 else x
        point = np.zeros(np.shape(step), np.int8 if first else np.uint8)
        at = {"axis": axis} if axis >= 0 else {}
        whole = f("QuantizeLinear", x, step, point, **at)
        f.finish(f("DequantizeLinear", whole, step, point, **at))
        return
    low, high, scale, step = (_along(f, v, x, axis) for v in (low, high, scale, step))
    # A range that was not given holds x but for a rounded end, and TensorFlow does not clamp to it.
    x = f("Mul", f("Max", f("Min", x, high), low) if given else x, scale)
    f.finish(f("Mul", f("Floor", f("Add", x, 0.5)) if up else f("Round", x), step))


def _whole_numbers(f: Formula) -> tuple[int, int]:
    """The first and the last of the quantized type.

    Raises:
        ModelError: the number of bits is computed at run time, or leaves nothing above 0.
    """
    if f.node.type == "QuantizeAndDequantizeV3":
        bits = int(f.known(3, "the number of bits").item())
    else:
        bits = int(f.attribute("num_bits", 8))
    if not f.attribute("signed_input", 1):
        return 0, 2**bits - 1
    if bits < 2:
        raise f.refusal(f"{bits} bit with a sign has no number above 0", "use 2 bits or more")
    return -(2 ** (bits - 1)) + int(f.attribute("narrow_range", 0)), 2 ** (bits - 1) - 1


def _extremes(f: Formula, x: Value, axis: int) -> tuple[Value, Value]:
    """The least and the greatest of x, of each channel along `axis` unless it is −1."""
    others = [i for i in range(f.rank(x)) if i != axis] if axis >= 0 else []
    if axis >= 0 and not others:
        return x, x
    return f.reduce("ReduceMin", x, *others), f.reduce("ReduceMax", x, *others)


def _steps(
    f: Formula, low: Value, high: Value, first: int, last: int
) -> tuple[Value, Value, Value, Value]:
    """The range with one end moved so that both are `first` and `last` steps, what x is multiplied by, and the step.

    Source: TensorFlow 2.21, core/kernels/quantize_and_dequantize_op.h (ComputeQuantizationRange).
    """
    dtype = onnx.helper.tensor_dtype_to_np_dtype(f.dtype(low))
    bottom, top = np.array(first, dtype), np.array(last, dtype)
    endless = np.array(np.finfo(dtype).max, dtype)

    def inverse(end: Value, number: Any, comparison: str) -> Value:
        """number / end if `end` lies on its side of 0, without a division by 0 elsewhere."""
        beside = f(comparison, end, 0)
        return f.where(beside, f("Div", number, f.where(beside, end, number)), endless)

    scale = inverse(high, top, "Greater")
    step = f("Div", high, top)
    if not first:
        return f("Mul", step, bottom), high, scale, step
    from_low = inverse(low, bottom, "Less")
    wider = f("Less", from_low, scale)
    scale = f.where(wider, from_low, scale)
    step = f.where(wider, f("Div", low, bottom), step)
    return (
        f.where(wider, low, f("Mul", step, bottom)),
        f.where(wider, f("Mul", step, top), high),
        scale,
        step,
    )


def _fits_8_bits(f: Formula, step: Value, first: int, last: int) -> bool:
    """Whether QuantizeLinear of opset 17 takes the type, and a known step, and the whole numbers are all of int8 or uint8.

    An end at −127 is one Max more.
    """
    if isinstance(step, str) or f.dtype(f.inputs[0]) != onnx.TensorProto.FLOAT:
        return False
    return (first, last) in ((-128, 127), (-127, 127), (0, 255)) and bool((step > 0).all())


def _along(f: Formula, value: Value, x: Value, axis: int) -> Value:
    """`value`, one number for each channel, in a shape that x broadcasts with."""
    after = range(1, f.rank(x) - axis) if axis >= 0 else ()
    return f.unsqueeze(value, *after) if after else value


FAMILY = {
    "QuantizeAndDequantizeV2": quantize_and_dequantize,
    "QuantizeAndDequantizeV3": quantize_and_dequantize,
    "QuantizeAndDequantizeV4": quantize_and_dequantize,
}
#: Operators to be written before tf2onnx's rewriters see them.
EARLY = tuple(FAMILY)
