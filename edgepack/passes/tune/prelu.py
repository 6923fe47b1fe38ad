"""PRelu, whose kernel is slow, as two scalings that stay in the layout of the convolutions about it."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, along

#: A steeper slope would leave too little of 1 − s + s in float32.
_STEEPEST = 8


def split_prelu(graph: Graph) -> int:
    """PRelu(x) → s·x + (1 − s)·relu(x), each scaling a depthwise 1×1 Conv, for constant slopes by channel and x [N, C, H, W].

    On x86, onnxruntime holds such a Conv in its blocked layout (NCHWc), with Add and Relu fused into it, while PRelu costs two
    reorderings and a kernel that GCC does not vectorize. Measured on face_landmark: 0.39 of the time. Engines without that
    layout (wasm: 1.2 to 1.5) get slower.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc.
    """
    done = 0
    for node in graph.nodes("PRelu"):
        shape = graph.shape(node.input[0])
        slopes = along(graph.floats(node.input[1]), shape, 1)
        if shape is None or len(shape) != 4 or slopes is None:
            continue
        if not (np.abs(slopes) <= _STEEPEST).all():
            continue
        graph.replace([node], _scalings(graph, node, slopes))
        done += 1
    return done


def _scalings(graph: Graph, node: onnx.NodeProto, slopes: Array) -> list[onnx.NodeProto]:
    x, y = node.input[0], node.output[0]
    low, high, positive = (graph.fresh(f"{y}/{part}") for part in ("low", "high", "positive"))
    nodes = [_scaled(graph, x, low, slopes)]
    rest = np.float32(1) - slopes
    if (rest >= 0).all():
        # relu(c·x) = c·relu(x), and a Relu after a Conv is fused into it.
        nodes += [
            _scaled(graph, x, positive, rest),
            graph.node("Relu", [positive], high),
        ]
    else:
        nodes += [graph.node("Relu", [x], positive), _scaled(graph, positive, high, rest)]
    return [*nodes, graph.node("Add", [low, high], y)]


def _scaled(graph: Graph, x: str, y: str, factors: Array) -> onnx.NodeProto:
    kernel = graph.constant(factors.reshape(-1, 1, 1, 1), f"{y}/factors")
    return graph.node("Conv", [x, kernel], y, group=factors.size, kernel_shape=[1, 1])
