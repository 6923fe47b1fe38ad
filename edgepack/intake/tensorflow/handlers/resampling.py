"""Resizing of images that ONNX's Resize does not do as TensorFlow does: by area, bicubic, antialiased, Lanczos, Gaussian.

All are linear and separable, so each is a product with two matrices, one for the rows and one for the columns. They are constants
where the sizes are known. onnxruntime 1.32 refuses to shrink with Resize's cubic mode.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value, original

_FLOAT = onnx.TensorProto.FLOAT


def resize(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ResizeBilinear with tf2onnx's handler, after a Cast: TensorFlow takes integers and gives float32."""
    from tf2onnx.onnx_opset.nn import Resize

    f = Formula(ctx, node)
    if not f.is_float(f.inputs[0]):
        shape = ctx.get_shape(node.input[0])
        image = f.name(f.cast(f.inputs[0], _FLOAT))
        ctx.set_shape(image, shape)
        ctx.replace_input(node, node.input[0], image, 0)
    original(ctx, node, Resize)


def resize_area(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the means over the areas that the new pixels cover.

    Source: TensorFlow 2.21, core/kernels/image/resize_area_op.cc.
    """
    f = Formula(ctx, node)

    def matrix(size: Value, new: Value) -> Value:
        scale = _scale(f, size, new)
        place = f.unsqueeze(f.range(_float(f, new)), 1)
        pixel = f.unsqueeze(f.range(_float(f, size)), 0)
        begin, end = f("Mul", place, scale), f("Mul", f("Add", place, 1), scale)
        # With align_corners the area of the last pixel reaches over the edge, which is repeated.
        last = f("Equal", pixel, f("Sub", _float(f, size), 1))
        right = f("Min", f.where(last, end, f("Add", pixel, 1)), end)
        cover = f("Sub", right, f("Max", begin, pixel))
        return f("Div", f("Max", cover, np.float32(0)), scale)

    _product(f, matrix)


def resize_bicubic(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the bicubic interpolation: Keys' kernel with half_pixel_centers, else with a = −0.75 and repeated edges.

    Source: TensorFlow 2.21, core/kernels/image/resize_bicubic_op.cc; its kernel is a table with 1024 steps between two pixels.
    """
    f = Formula(ctx, node)
    half = bool(f.attribute("half_pixel_centers", 0))

    def matrix(size: Value, new: Value) -> Value:
        place = f.range(_float(f, new))
        scale = _scale(f, size, new)
        if half:
            center = f("Sub", f("Mul", f("Add", place, 0.5), scale), 0.5)
        else:
            center = f("Mul", place, scale)
        center = f.unsqueeze(center, 1)
        floor = f("Floor", center)
        delta = f("Div", f("Round", f("Mul", f("Sub", center, floor), 1024)), 1024)
        pixel = f.unsqueeze(f.range(_float(f, size)), 0)
        last = f("Sub", _float(f, size), 1)
        total: Value | None = None
        for step in (-1, 0, 1, 2):
            weight = _cubic(f, f("Abs", f("Sub", delta, float(step))), -0.5 if half else -0.75)
            at = f("Add", floor, float(step))
            if not half:
                at = f("Min", f("Max", at, np.float32(0)), last)
            part = f("Mul", f.cast(f("Equal", pixel, at), _FLOAT), weight)
            total = part if total is None else f("Add", total, part)
        assert total is not None
        return _normalized(f, total) if half else total

    _product(f, matrix)


def scale_and_translate(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the resampling that tf.image.resize uses with antialias, and for the Lanczos, Gaussian and Mitchell kernels.

    Source: TensorFlow 2.21, core/kernels/image/scale_and_translate_op.cc (ComputeSpansCore) and sampling_kernels.h.
    """
    f = Formula(ctx, node)
    radius, kernel = _KERNELS[f.attribute("kernel_type", "lanczos3")]
    antialias = bool(f.attribute("antialias", 1))
    axis = iter((0, 1))

    def matrix(size: Value, new: Value) -> Value:
        i = np.array(next(axis), np.int64)
        back = f("Reciprocal", f("Gather", f.inputs[2], i))
        offset = f("Mul", f("Gather", f.inputs[3], i), back)
        place = f.unsqueeze(f.range(_float(f, new)), 1)
        pixel = f.unsqueeze(f.range(_float(f, size)), 0)
        center = f("Sub", f("Mul", f("Add", place, 0.5), back), offset)
        width = f("Max", back, np.float32(1)) if antialias else np.float32(1)
        distance = f("Div", f("Abs", f("Sub", f("Add", pixel, 0.5), center)), width)
        near = f("Less", distance, radius)
        weights = f("Mul", kernel(f, distance), f.cast(near, _FLOAT))
        inside = f("And", f("GreaterOrEqual", center, 0), f("LessOrEqual", center, _float(f, size)))
        return f("Mul", _normalized(f, weights), f.cast(inside, _FLOAT))

    _product(f, matrix)


def _product(f: Formula, matrix: Any) -> None:
    """Write rows · image · columnsᵀ, where `matrix` gives the weights for an old and a new size: [new, old]."""
    image = f.inputs[0]
    sides = [
        matrix(
            f.size(image, i + 1),
            f("Gather", f.cast(f.inputs[1], onnx.TensorProto.INT64), np.array(i, np.int64)),
        )
        for i in (0, 1)
    ]
    rows, columns = sides[0], f("Transpose", sides[1], perm=[1, 0])
    image = f("Transpose", f.cast(image, _FLOAT), perm=[0, 3, 1, 2])
    image = f("MatMul", f("MatMul", rows, image), columns)
    f.finish(f("Transpose", image, perm=[0, 2, 3, 1]))


def _float(f: Formula, size: Value) -> Value:
    return f.cast(size, _FLOAT)


def _scale(f: Formula, size: Value, new: Value) -> Value:
    """Old pixels for a new one."""
    old, wanted = _float(f, size), _float(f, new)
    plain = f("Div", old, wanted)
    if not f.attribute("align_corners", 0):
        return plain
    aligned = f("Div", f("Sub", old, 1), f("Max", f("Sub", wanted, 1), np.float32(1)))
    return f.where(f("Greater", wanted, 1), aligned, plain)


def _normalized(f: Formula, weights: Value) -> Value:
    total = f.reduce("ReduceSum", weights, 1, keepdims=True)
    empty = f("Equal", total, 0)
    return f("Div", weights, f.where(empty, np.float32(1), total))


def _polynomial(f: Formula, x: Value, *factors: float) -> Value:
    """Horner's scheme, the highest power first."""
    y = f("Add", f("Mul", x, factors[0]), factors[1])
    for factor in factors[2:]:
        y = f("Add", f("Mul", y, x), factor)
    return y


def _cubic(f: Formula, x: Value, a: float) -> Value:
    near = _polynomial(f, x, a + 2, -a - 3, 0, 1)
    far = _polynomial(f, x, a, -5 * a, 8 * a, -4 * a)
    return f.where(f("LessOrEqual", x, 1), near, f.where(f("Less", x, 2), far, np.float32(0)))


def _mitchell(f: Formula, x: Value) -> Value:
    near = _polynomial(f, x, 7 / 6, -2, 0, 8 / 9)
    far = _polynomial(f, x, -7 / 18, 2, -10 / 3, 16 / 9)
    return f.where(f("Less", x, 1), near, f.where(f("Less", x, 2), far, np.float32(0)))


def _triangle(f: Formula, x: Value) -> Value:
    return f("Sub", np.float32(1), x)


def _gaussian(f: Formula, x: Value) -> Value:
    return f("Exp", f("Mul", f("Mul", x, x), -2))  # σ = radius / 3 = 1/2


def _box(f: Formula, x: Value) -> Value:
    return f.where(
        f("Less", x, 0.5),
        np.float32(1),
        f.where(f("Equal", x, 0.5), np.float32(0.5), np.float32(0)),
    )


def _lanczos(radius: int) -> Any:
    def kernel(f: Formula, x: Value) -> Value:
        turn = f("Mul", x, math.pi)
        sines = f("Mul", f("Sin", turn), f("Sin", f("Div", turn, radius)))
        small = f("LessOrEqual", x, 1e-3)
        square = f.where(small, np.float32(1), f("Mul", turn, turn))
        return f.where(small, np.float32(1), f("Div", f("Mul", sines, radius), square))

    return kernel


#: By TensorFlow's kernel_type: the radius, and the kernel for distances within it.
_KERNELS: dict[str, tuple[float, Any]] = {
    "box": (1, _box),
    "triangle": (1, _triangle),
    "gaussian": (1.5, _gaussian),
    "keyscubic": (2, lambda f, x: _cubic(f, x, -0.5)),
    "mitchellcubic": (2, _mitchell),
    "lanczos1": (1, _lanczos(1)),
    "lanczos3": (3, _lanczos(3)),
    "lanczos5": (5, _lanczos(5)),
}

FAMILY = {
    "ResizeArea": resize_area,
    "ResizeBicubic": resize_bicubic,
    "ResizeBilinear": resize,
    "ScaleAndTranslate": scale_and_translate,
}
