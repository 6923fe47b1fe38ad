"""RGB ↔ HSV, and the saturation that tf2onnx gets wrong for grey and black.

Source: TensorFlow 2.21, core/kernels/image/colorspace_op.h; adjust_saturation_op.cc does the same around a product.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value


def rgb_to_hsv(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write hue, saturation and value, each 0 to 1."""
    f = Formula(ctx, node)
    f.finish(f("Concat", *_hsv(f, f.inputs[0]), axis=-1))


def hsv_to_rgb(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write red, green and blue."""
    f = Formula(ctx, node)
    f.finish(_rgb(f, *_channels(f, f.inputs[0])))


def adjust_saturation(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the image with its saturation times a factor, at most 1."""
    f = Formula(ctx, node)
    image, factor = f.inputs
    hue, saturation, value = _hsv(f, image)
    saturation = f("Clip", f("Mul", saturation, f.cast(factor, f.dtype(image))), 0, 1)
    f.finish(_rgb(f, hue, saturation, value))


def _channels(f: Formula, image: Value) -> list[Value]:
    return f.several(3, "Split", image, np.array([1, 1, 1], np.int64), axis=f.rank(image) - 1)


def _hsv(f: Formula, image: Value) -> tuple[Value, Value, Value]:
    red, green, blue = _channels(f, image)
    axis = f.rank(image) - 1
    value = f.reduce("ReduceMax", image, axis, keepdims=True)
    span = f("Sub", value, f.reduce("ReduceMin", image, axis, keepdims=True))

    def over(a: Value, b: Value) -> Value:
        """a / b, and 0 where b is not positive."""
        positive = f("Greater", b, 0)
        return f("Div", f.where(positive, a, 0), f.where(positive, b, 1))

    saturation = over(span, value)
    parts = []
    for a, b, turn in ((green, blue, 0.0), (blue, red, 2.0), (red, green, 4.0)):
        parts.append(f("Div", f("Add", over(f("Sub", a, b), span), turn), 6))
    hue = f.where(
        f("Equal", red, value), parts[0], f.where(f("Equal", green, value), parts[1], parts[2])
    )
    hue = f.where(f("Greater", span, 0), hue, 0)
    hue = f("Add", hue, f.cast(f("Less", hue, 0), f.dtype(image)))
    return hue, saturation, value


def _rgb(f: Formula, hue: Value, saturation: Value, value: Value) -> Value:
    base = f(
        "Mul",
        value,
        f("Sub", np.array(1, onnx.helper.tensor_dtype_to_np_dtype(f.dtype(value))), saturation),
    )
    span = f("Mul", value, saturation)
    turn = f("Mul", hue, 6)

    def ramp(x: Value) -> Value:
        return f("Add", base, f("Mul", span, f("Clip", x, 0, 1)))

    red = ramp(f("Sub", f("Abs", f("Sub", turn, 3)), 1))
    green = ramp(f("Neg", f("Sub", f("Abs", f("Sub", turn, 2)), 2)))
    blue = ramp(f("Neg", f("Sub", f("Abs", f("Sub", turn, 4)), 2)))
    return f("Concat", red, green, blue, axis=-1)


FAMILY = {
    "AdjustSaturation": adjust_saturation,
    "HSVToRGB": hsv_to_rgb,
    "RGBToHSV": rgb_to_hsv,
}
