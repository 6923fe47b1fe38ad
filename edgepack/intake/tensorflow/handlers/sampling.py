"""Reading images at computed places: crops of boxes, and affine and projective transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

_INT64, _FLOAT = onnx.TensorProto.INT64, onnx.TensorProto.FLOAT


def crop_and_resize(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write CropAndResize with gathers. tf2onnx writes a Loop over the boxes, which reads other pixels in `nearest` mode.

    Source: TensorFlow 2.21, core/kernels/image/crop_and_resize_op.cc.
    """
    f = Formula(ctx, node)
    image, boxes, owners, crop = f.inputs
    places = []
    for axis in (0, 1):
        first, last = (f("Gather", boxes, np.array([axis + i], np.int64), axis=1) for i in (0, 2))
        end = f("Sub", f.cast(f.size(image, axis + 1), _FLOAT), 1)
        count = f.cast(f("Gather", crop, np.array(axis, np.int64)), _FLOAT)
        several = f("Greater", count, 1)
        gaps = f.where(several, f("Sub", count, 1), 1)
        step = f("Div", f("Mul", f("Sub", last, first), end), gaps)
        line = f("Add", f("Mul", first, end), f("Mul", f.range(count), step))
        middle = f("Mul", f("Mul", f("Add", first, last), 0.5), end)
        places.append(f.where(several, line, middle))
    y, x = f.unsqueeze(places[0], 2), f.unsqueeze(places[1], 1)
    inside = f("And", *(_within(f, p, f.size(image, i + 1)) for i, p in enumerate((y, x))))
    owners = f.reshape(f.cast(owners, _INT64), -1, 1, 1)
    found = _read(f, image, owners, y, x, f.attribute("method", "bilinear"))
    fill = np.array(f.attribute("extrapolation_value", 0.0), np.float32)
    f.finish(f.where(f.unsqueeze(inside, 3), found, fill))


def projective_transform(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ImageProjectiveTransformV2 or V3.

    Source: TensorFlow 2.21, core/kernels/image/image_ops.h.
    """
    f = Formula(ctx, node)
    image, transforms, size = f.inputs[:3]
    fill = f.inputs[3] if len(f.inputs) > 3 else np.array(0, np.float32)
    kind = f.dtype(image)
    lines = [f.range(f.cast(f("Gather", size, np.array(i, np.int64)), _FLOAT)) for i in (0, 1)]
    y, x = f.reshape(lines[0], 1, -1, 1), f.reshape(lines[1], 1, 1, -1)
    factors = [
        f.reshape(f("Gather", transforms, np.array(i, np.int64), axis=1), -1, 1, 1)
        for i in range(8)
    ]

    def turned(a: Value, b: Value, c: Value) -> Value:
        return f("Add", f("Add", f("Mul", a, x), f("Mul", b, y)), c)

    depth = turned(factors[6], factors[7], np.array(1, np.float32))
    mode = f.attribute("fill_mode", "CONSTANT")
    places = []
    for axis, part in ((1, factors[3:6]), (0, factors[:3])):
        place = f("Div", turned(*part), depth)
        count = f.cast(f.size(image, 2 - axis), _FLOAT)
        places.append(_MODES[mode](f, place, count))
    rows, columns = places
    count = f.size(image, 0)
    owners = f.reshape(f.range(count), -1, 1, 1)
    method = f.attribute("interpolation").lower()
    image = f.cast(image, _FLOAT)
    f.finish(f.cast(_read(f, image, owners, rows, columns, method, f.cast(fill, _FLOAT)), kind))


def _read(
    f: Formula,
    image: Value,
    owners: Value,
    y: Value,
    x: Value,
    method: str,
    fill: Value | None = None,
) -> Value:
    """The image's pixels [n, height, width, channels] at places; with `fill`, that is what lies outside, else the edge."""
    image = f.cast(image, _FLOAT)
    height, width = f.size(image, 1), f.size(image, 2)
    channels = f.reshape(f.size(image, 3), 1)
    flat = f("Reshape", image, f("Concat", np.array([-1], np.int64), channels, axis=0))

    def pixel(row: Value, column: Value) -> Value:
        inner = [
            f("Min", f("Max", at, np.float32(0)), f("Sub", f.cast(size, _FLOAT), 1))
            for at, size in ((row, height), (column, width))
        ]
        rows, columns = (f.cast(i, _INT64) for i in inner)
        index = f("Add", f("Mul", f("Add", f("Mul", owners, height), rows), width), columns)
        value = f("Gather", flat, index, axis=0)
        if fill is None:
            return value
        inside = f("And", f("Equal", inner[0], row), f("Equal", inner[1], column))
        return f.where(f.unsqueeze(inside, 3), value, fill)

    if method == "nearest":
        return pixel(_rounded(f, y), _rounded(f, x))
    top, left = f("Floor", y), f("Floor", x)
    down, right = (f.unsqueeze(f("Sub", a, b), 3) for a, b in ((y, top), (x, left)))
    bottom, edge = f("Add", top, 1), f("Add", left, 1)

    def mixed(a: Value, b: Value, share: Value) -> Value:
        return f("Add", f("Mul", a, f("Sub", np.float32(1), share)), f("Mul", b, share))

    upper = mixed(pixel(top, left), pixel(top, edge), right)
    return mixed(upper, mixed(pixel(bottom, left), pixel(bottom, edge), right), down)


def _within(f: Formula, place: Value, size: Value) -> Value:
    last = f("Sub", f.cast(size, _FLOAT), 1)
    return f("And", f("GreaterOrEqual", place, 0), f("LessOrEqual", place, last))


def _rounded(f: Formula, x: Value) -> Value:
    """Halves away from 0, as C's round; ONNX's Round takes the even neighbour."""
    return f("Mul", f("Sign", x), f("Floor", f("Add", f("Abs", x), 0.5)))


def _clamped(f: Formula, place: Value, count: Value) -> Value:
    return f("Min", f("Max", place, np.float32(0)), f("Sub", count, 1))


def _reflected(f: Formula, place: Value, count: Value) -> Value:
    period = f("Mul", count, 2)
    place = f("Sub", place, f("Mul", period, f("Floor", f("Div", place, period))))
    back = f("Sub", f("Sub", period, place), 1)
    return _clamped(f, f.where(f("GreaterOrEqual", place, count), back, place), count)


def _wrapped(f: Formula, place: Value, count: Value) -> Value:
    last = f("Sub", count, 1)
    turns = f("Floor", f("Div", f("Abs", place), last))
    low = f("Add", place, f("Mul", count, f("Add", turns, 1)))
    high = f("Sub", place, f("Mul", count, turns))
    moved = f.where(f("Greater", place, last), high, place)
    return _clamped(f, f.where(f("Less", place, 0), low, moved), count)


#: By TensorFlow's fill_mode: the place inside that stands for one outside.
_MODES: dict[str, Callable[[Formula, Value, Value], Value]] = {
    "CONSTANT": lambda f, place, count: place,
    "NEAREST": _clamped,
    "REFLECT": _reflected,
    "WRAP": _wrapped,
}

FAMILY = {
    "CropAndResize": crop_and_resize,
    "ImageProjectiveTransformV2": projective_transform,
    "ImageProjectiveTransformV3": projective_transform,
}
