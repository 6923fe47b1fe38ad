"""A convolution with one output channel, as a depthwise one and a sum."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Graph, attribute


def split_thin_conv(graph: Graph) -> int:
    """Conv(C → 1 channels) of a kernel larger than 1×1 → depthwise Conv, then Conv1×1 with ones and the bias.

    Engines compute output channels in blocks of 4 to 16: of one channel, most of a block is thrown away. A depthwise Conv fills its
    blocks with input channels.
    """
    done = 0
    for conv in graph.nodes("Conv"):
        kernel, shape = graph.floats(conv.input[1]), graph.shape(conv.output[0])
        if kernel is None or shape is None or kernel.ndim != 4 or kernel.shape[0] != 1:
            continue
        channels = kernel.shape[1]
        if channels < 2 or kernel.shape[2:] == (1, 1) or attribute(conv, "group", 1) != 1:
            continue
        y = conv.output[0]
        parts = graph.fresh(f"{y}/parts")
        deep = onnx.NodeProto()
        deep.CopyFrom(conv)
        del deep.input[2:]
        deep.input[1] = graph.constant(
            kernel.reshape(channels, 1, *kernel.shape[2:]), f"{y}/kernel"
        )
        deep.output[0] = parts
        kept = [a for a in deep.attribute if a.name != "group"]
        del deep.attribute[:]
        deep.attribute.extend([*kept, onnx.helper.make_attribute("group", channels)])
        ones = graph.constant(np.ones((1, channels, 1, 1), np.float32), f"{y}/ones")
        last = graph.node("Conv", [parts, ones, *conv.input[2:]], y, kernel_shape=[1, 1])
        graph.replace([conv], [deep, last])
        done += 1
    return done
