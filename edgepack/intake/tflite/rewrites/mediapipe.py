"""MediaPipe's own operators, spelled out in built-in ones. Formulas: mediapipe/util/tflite/operations/*.cc (0.10.14)."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import Graph, ints
from edgepack.intake.tflite.rewrites.lines import Lines

#: TfLitePadding (tensorflow/lite/core/c/builtin_op_data.h) → the schema's Padding.
_PADDING = {1: schema.Padding.SAME, 2: schema.Padding.VALID}


def spell_out(graph: Graph) -> tuple[str, ...]:
    """Replace MediaPipe's operators where they can be expressed; the names of those that were replaced.

    Raises:
        ModelError: an operator whose options cannot be read.
    """
    operators: list[Any] = []
    done: set[str] = set()
    for op in graph.operators:
        name = graph.name(op)
        known = op.customOptions is not None or name in _WITHOUT_OPTIONS
        if name not in _SPELLED or not known:
            operators.append(op)
            continue
        lines = Lines(graph)
        try:
            written = _SPELLED[name](lines, op)
        except (KeyError, ValueError, IndexError, TypeError, struct.error) as error:
            raise ModelError(
                f"the operator {name} has options or shapes that MediaPipe's own kernel does not take: {error}",
                "export the model again",
            ) from error
        operators += lines.operators if written else [op]
        if written:
            done.add(name)
    graph.subgraph.operators = operators
    return tuple(sorted(done))


def _options(op: Any) -> Mapping[str, Any]:
    loaded = flexbuffers.Loads(bytes(bytearray(op.customOptions)))
    if not isinstance(loaded, dict):
        raise ValueError("its options are no map")
    return loaded


def _transpose_conv(lines: Lines, op: Any) -> bool:
    """Convolution2DTransposeBias: TRANSPOSE_CONV of the same weights, then the bias (TRANSPOSE_CONV's own is version 3)."""
    data, weights, bias = ints(op.inputs)
    to = ints(op.outputs)[0]
    padding, stride_w, stride_h = struct.unpack_from("<iii", bytes(bytearray(op.customOptions)))
    batch, height, width, _ = lines.shape(data)
    out, rows, columns, _ = lines.shape(weights)
    cut_h = cut_w = 0
    if _PADDING[padding] == schema.Padding.SAME:
        cut_h = max(0, rows - (height - 1) % stride_h - 1)
        cut_w = max(0, columns - (width - 1) % stride_w - 1)
    shape = [
        batch,
        stride_h * (height - 1) + rows - cut_h,
        stride_w * (width - 1) + columns - cut_w,
        out,
    ]
    options = schema.TransposeConvOptionsT(
        padding=_PADDING[padding], strideW=stride_w, strideH=stride_h
    )
    size = lines.constant(shape, "int32")
    made = lines.write("TRANSPOSE_CONV", [size, weights, data], shape, options, "float32")
    lines.put_out(lines.add(made, bias), to)
    return True


def _transform_landmarks(lines: Lines, op: Any) -> bool:
    """TransformLandmarks, version 2: x and y of every point through the matrix; z as it is."""
    points, matrix = ints(op.inputs)
    shape = lines.shape(points)
    if len(shape) != 3 or shape[0] != 1 or shape[2] not in (2, 3):
        return False
    moved = _affine(lines, lines.slice(points, [0, 0, 0], [1, shape[1], 2]), matrix)
    if shape[2] == 3:
        depth = lines.slice(points, [0, 0, 2], [1, shape[1], 1])
        moved = lines.concat([moved, depth], 2)
    lines.put_out(moved, ints(op.outputs)[0])
    return True


def _affine(lines: Lines, points: int, matrix: int) -> int:
    """[1, n, 2] through the first two rows of a [1, 4, 4] matrix, with z = 0."""
    turn = lines.slice(matrix, [0, 0, 0], [1, 2, 2])
    shift = lines.reshape(lines.slice(matrix, [0, 0, 3], [1, 2, 1]), [1, 1, 2])
    return lines.add(lines.matmul(points, turn, transposed=True), shift)


def _transform_matrix(lines: Lines, op: Any) -> bool:
    """Landmarks2TransformMatrix, version 2: from crop pixels to the box around some landmarks, turned upright."""
    options = _options(op)
    points = ints(op.inputs)[0]
    shape = lines.shape(points)
    if len(shape) != 3 or shape[0] != 1 or shape[2] != 3:
        return False
    landmarks = lines.slice(points, [0, 0, 0], [1, shape[1], 2])
    turn = _rotation(lines, landmarks, options)
    chosen = lines.constant([int(i) for i in options["subset_idxs"]], "int32")
    turned = lines.matmul(lines.gather(landmarks, chosen, 1), turn)
    high, low = lines.reduce("REDUCE_MAX", turned, 1), lines.reduce("REDUCE_MIN", turned, 1)
    middle = lines.multiply(lines.add(high, low), lines.constant([[[0.5, 0.5]]]))
    middle = lines.matmul(middle, turn, transposed=True)
    width, height = float(options["output_width"]), float(options["output_height"])
    per_pixel = [[[options["scale_x"] / width, options["scale_y"] / height]]]
    scaled = lines.multiply(
        turn, lines.multiply(lines.subtract(high, low), lines.constant(per_pixel))
    )
    corner = lines.matmul(scaled, lines.constant([[[-width / 2], [-height / 2]]]))
    shift = lines.add(corner, lines.reshape(middle, [1, 2, 1]))
    top = lines.concat([scaled, lines.constant(np.zeros([1, 2, 1])), shift], 2)
    rest = lines.constant([[[0, 0, 1, 0], [0, 0, 0, 1]]])
    lines.put_out(lines.concat([top, rest], 1), ints(op.outputs)[0])
    return True


def _rotation(lines: Lines, landmarks: int, options: Mapping[str, Any]) -> int:
    """[[cos r, sin r], [−sin r, cos r]] for r = target − atan2(right − left), without the angle itself.

    Two equal landmarks have the angle 0, as atan2(0, 0) is.
    """
    left = lines.slice(landmarks, [0, int(options["left_rotation_idx"]), 0], [1, 1, 2])
    right = lines.slice(landmarks, [0, int(options["right_rotation_idx"]), 0], [1, 1, 2])
    apart = lines.subtract(right, left)
    squares = lines.reduce("SUM", lines.multiply(apart, apart), 2)
    length = lines.write("SQRT", [squares], [1, 1, 1])
    same = lines.compare("EQUAL", length, lines.constant([[[0.0]]]))
    apart = lines.add(apart, lines.multiply(same, lines.constant([[[1.0, 0.0]]])))
    unit = lines.divide(apart, lines.add(length, same))
    angle = float(options.get("target_rotation_radians") or 0.0)
    cos, sin = math.cos(angle), math.sin(angle)
    first = lines.matmul(unit, lines.constant([[[cos, sin], [sin, -cos]]]))
    second = lines.matmul(first, lines.constant([[[0.0, 1.0], [-1.0, 0.0]]]))
    return lines.concat([first, second], 1)


def _transform_tensor(lines: Lines, op: Any) -> bool:
    """TransformTensorBilinear, version 2: an image looked up, bilinearly, where the matrix sends each output pixel."""
    options = _options(op)
    image, matrix = ints(op.inputs)
    batch, height, width, channels = lines.shape(image)
    if batch != 1:
        return False
    rows, columns = int(options["output_height"]), int(options["output_width"])
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32) + np.float32(0.5)
    pixels = lines.constant(np.stack([x, y], -1).reshape(1, rows * columns, 2))
    places = lines.subtract(_affine(lines, pixels, matrix), lines.constant([[[0.5, 0.5]]]))
    zero, last = lines.constant([[[0.0, 0.0]]]), lines.constant([[[width - 1.0, height - 1.0]]])
    inside = lines.multiply(
        lines.compare("GREATER_EQUAL", places, zero), lines.compare("LESS_EQUAL", places, last)
    )
    inside = lines.reduce("REDUCE_MIN", inside, 2)
    floor = lines.write("FLOOR", [places], lines.shape(places))
    far = lines.subtract(places, floor)
    near = lines.subtract(lines.constant([[[1.0, 1.0]]]), far)
    after = lines.add(floor, lines.constant([[[1.0, 1.0]]]))
    low, high = (lines.lowest(lines.highest(p, zero), last) for p in (floor, after))
    flat = lines.reshape(image, [height * width, channels])
    count = rows * columns

    def part(a: int, axis: int) -> int:
        return lines.slice(a, [0, 0, axis], [1, count, 1])

    total = -1
    for corner_y, weight_y in ((low, near), (high, far)):
        for corner_x, weight_x in ((low, near), (high, far)):
            row = lines.multiply(part(corner_y, 1), lines.constant([[[float(width)]]]))
            index = lines.cast(lines.add(row, part(corner_x, 0)), "int32")
            value = lines.gather(flat, lines.reshape(index, [count]), 0)
            weight = lines.multiply(part(weight_y, 1), part(weight_x, 0))
            weight = lines.reshape(lines.multiply(weight, inside), [count, 1])
            term = lines.multiply(value, weight)
            total = term if total < 0 else lines.add(total, term)
    lines.put_out(lines.reshape(total, [1, rows, columns, channels]), ints(op.outputs)[0])
    return True


def _pool_block(op: Any) -> int | None:
    """The side of the square windows of a pooling whose windows touch and do not overlap; None for others."""
    _, stride_w, stride_h, width, height, activation = struct.unpack_from(
        "<6i", bytes(bytearray(op.customOptions))
    )
    square = width == height == stride_w == stride_h > 0
    return int(width) if square and activation == 0 else None


def _pool_argmax(lines: Lines, op: Any) -> bool:
    """MaxPoolingWithArgmax2D: each window's greatest value, and its place in the window as a float, 0.1 above the integer."""
    block, (data,), (values, places) = _pool_block(op), ints(op.inputs), ints(op.outputs)
    batch, height, width, channels = lines.shape(data)
    if block is None or height % block or width % block:
        return False
    shape = [batch, height // block, width // block, channels]
    options = schema.SpaceToDepthOptionsT(blockSize=block)
    windows = lines.write("SPACE_TO_DEPTH", [data], [*shape[:3], channels * block**2], options)
    windows = lines.reshape(windows, [math.prod(shape[:3]), block**2, channels])
    first = lines.write(
        "ARG_MAX",
        [windows, lines.constant([1], "int32")],
        [math.prod(shape[:3]), channels],
        schema.ArgMaxOptionsT(outputType=schema.TensorType.INT32),
        "int32",
    )
    found = lines.reshape(lines.cast(first, "float32"), shape)
    lines.put_out(lines.add(found, lines.constant([[[[0.1]]]])), places)
    lines.put_out(lines.reshape(lines.reduce("REDUCE_MAX", windows, 1), shape), values)
    return True


def _unpool(lines: Lines, op: Any) -> bool:
    """MaxUnpooling2D: each value at its place in a window of zeros."""
    block, (data, places), (to,) = _pool_block(op), ints(op.inputs), ints(op.outputs)
    batch, height, width, channels = lines.shape(data)
    if block is None:
        return False
    whole = lines.write("FLOOR", [places], lines.shape(places))
    parts = [
        lines.multiply(data, lines.compare("EQUAL", whole, lines.constant([[[[float(k)]]]])))
        for k in range(block**2)
    ]
    options = schema.DepthToSpaceOptionsT(blockSize=block)
    shape = [batch, height * block, width * block, channels]
    lines.put_out(lines.write("DEPTH_TO_SPACE", [lines.concat(parts, 3)], shape, options), to)
    return True


_WITHOUT_OPTIONS = ("TransformLandmarks",)
_SPELLED: Mapping[str, Callable[[Lines, Any], bool]] = {
    "Convolution2DTransposeBias": _transpose_conv,
    "TransformLandmarks": _transform_landmarks,
    "Landmarks2TransformMatrix": _transform_matrix,
    "TransformTensorBilinear": _transform_tensor,
    "MaxPoolingWithArgmax2D": _pool_argmax,
    "MaxUnpooling2D": _unpool,
}
