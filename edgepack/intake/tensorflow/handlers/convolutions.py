"""Convolutions whose groups or padding tf2onnx 1.17 gets wrong, and morphological dilation."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.intake.tensorflow.handlers.formula import Formula, Value, original
from edgepack.intake.tensorflow.handlers.patches import same_padded


def conv_3d(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Conv3D with its groups: the input's channels over the kernel's. tf2onnx writes one group."""
    from tf2onnx.onnx_opset.nn import ConvOp

    f = Formula(ctx, node)
    axis = 1 if f.attribute("data_format", "NDHWC") == "NCDHW" else -1
    channels, own = f.shape(f.inputs[0])[axis], f.shape(f.inputs[1])[-2]
    original(ctx, node, ConvOp)
    if channels and own:
        node.set_attr("group", channels // own)


def conv_transpose(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Conv2DBackpropInput or Conv3DBackpropInputV2 with rows of zeros at the end where the output is longer than the kernel reaches.

    That is so with Keras' output_padding, and with strides longer than the kernel. tf2onnx writes negative pads, which ONNX forbids.
    """
    from tf2onnx.onnx_opset.nn import ConvTranspose

    original(ctx, node, ConvTranspose)
    pads = list(node.get_attr_value("pads", []))
    half = len(pads) // 2
    extra = [max(0, -a - b) for a, b in zip(pads[:half], pads[half:], strict=True)]
    if any(extra):
        kept = [0 if more else pad for pad, more in zip(pads, extra * 2, strict=True)]
        node.set_attr("pads", kept)
        node.set_attr("output_padding", extra)


def dilation_2d(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Dilation2D: the greatest of image + kernel over the kernel's window; what lies outside the image counts as −∞.

    Source: TensorFlow 2.21, core/kernels/dilation_ops.cc.
    """
    f = Formula(ctx, node)
    image, kernel = f.inputs
    strides, rates = (list(f.attribute(k))[1:3] for k in ("strides", "rates"))
    sizes = [s for s in f.shape(kernel)[:2] if s is not None]
    length = [(k - 1) * r + 1 for k, r in zip(sizes, rates, strict=True)]
    if f.attribute("padding") == "SAME":
        image = same_padded(f, image, length, strides, float(np.finfo(np.float32).min))
    result: Value | None = None
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            part = image
            for axis, at in ((1, i), (2, j)):
                begin = at * rates[axis - 1]
                left = length[axis - 1] - 1 - begin
                end = -left if left else np.iinfo(np.int64).max
                part = f.slice(part, begin, int(end), axis, strides[axis - 1])
            weight = f("Gather", f("Gather", kernel, np.array(i), axis=0), np.array(j), axis=0)
            part = f("Add", part, weight)
            result = part if result is None else f("Max", result, part)
    assert result is not None
    f.finish(result)


FAMILY = {
    "Conv2DBackpropInput": conv_transpose,
    "Conv3D": conv_3d,
    "Conv3DBackpropInputV2": conv_transpose,
    "Dilation2D": dilation_2d,
}
