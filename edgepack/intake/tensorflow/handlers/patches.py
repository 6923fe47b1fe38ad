"""Windows of images and volumes, side by side in the channels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value


def extract_patches(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ExtractImagePatches or ExtractVolumePatches: row by row of the window, all channels of a pixel together.

    Windows that touch but do not overlap, as vision transformers cut them, are a Reshape; others one Slice for each pixel of the window.
    tf2onnx 1.17 asks for known sizes, and fails for some windows; it has no volumes.
    """
    f = Formula(ctx, node)
    x = f.inputs[0]
    spatial = f.rank(x) - 2
    window, strides = (list(f.attribute(k))[1:-1] for k in ("ksizes", "strides"))
    rates = list(f.attribute("rates", [1] * (spatial + 2)))[1:-1]
    reach = [(k - 1) * r + 1 for k, r in zip(window, rates, strict=True)]
    if f.attribute("padding") == "SAME":
        x = same_padded(f, x, reach, strides, 0)
    if window == strides and set(rates) == {1}:
        f.finish(_blocks(f, x, window))
        return
    parts = []
    for place in itertools.product(*(range(k) for k in window)):
        part = x
        for axis, (at, rate, size, stride) in enumerate(
            zip(place, rates, reach, strides, strict=True)
        ):
            left = size - 1 - at * rate
            end = -left if left else int(np.iinfo(np.int64).max)
            part = f.slice(part, at * rate, end, axis + 1, stride)
        parts.append(part)
    f.finish(f("Concat", *parts, axis=spatial + 1))


def _blocks(f: Formula, x: Value, window: list[int]) -> Value:
    spatial = len(window)
    sizes: list[Value] = [f.reshape(f.size(x, 0), 1)]
    rows: list[Value] = [sizes[0]]
    for axis, size in enumerate(window):
        count = f("Div", f.reshape(f.size(x, axis + 1), 1), np.array([size], np.int64))
        whole = f("Mul", count, size)
        at = np.array([axis + 1], np.int64)
        x = f("Slice", x, np.zeros(1, np.int64), whole, at)
        sizes += [count, np.array([size], np.int64)]
        rows.append(count)
    channels = f.reshape(f.size(x, spatial + 1), 1)
    x = f("Reshape", x, f("Concat", *sizes, channels, axis=0))
    outer, inner = range(1, 2 * spatial, 2), range(2, 2 * spatial + 1, 2)
    x = f("Transpose", x, perm=[0, *outer, *inner, 2 * spatial + 1])
    depth = f("Mul", channels, int(np.prod(window)))
    return f("Reshape", x, f("Concat", *rows, depth, axis=0))


def same_padded(f: Formula, x: Value, reach: list[int], strides: list[int], fill: float) -> Value:
    """`x` with TensorFlow's SAME padding around; the first and last axis are batch and channels."""
    before: list[Value] = [np.zeros(1, np.int64)]
    after: list[Value] = [np.zeros(1, np.int64)]
    for axis, (length, stride) in enumerate(zip(reach, strides, strict=True)):
        size = f.reshape(f.size(x, axis + 1), 1)
        last = f("Mul", f("Div", f("Sub", size, 1), np.array([stride], np.int64)), stride)
        total = f("Max", f("Sub", f("Add", last, length), size), np.zeros(1, np.int64))
        begin = f("Div", total, np.array([2], np.int64))
        before.append(begin)
        after.append(f("Sub", total, begin))
    zero = np.zeros(1, np.int64)
    return f("Pad", x, f("Concat", *before, zero, *after, zero, axis=0), _like(f, x, fill))


def _like(f: Formula, x: Value, number: float) -> Value:
    return np.array(number, onnx.helper.tensor_dtype_to_np_dtype(f.dtype(x)))


FAMILY = {"ExtractImagePatches": extract_patches, "ExtractVolumePatches": extract_patches}
