"""What is left of a batch normalization, as a convolution that engines know how to fuse."""

from __future__ import annotations

import onnx

from edgepack.passes.tune.graph import Array, Graph, along


def convolve_scale_shift(graph: Graph) -> int:
    """Mul and Add by constants per channel of x [N, C, H, W] → a depthwise 1×1 Conv with a bias.

    One pass over the values instead of two, with a Relu fused into it; on x86 in onnxruntime's blocked layout, in INT8 as one
    operator instead of two with a rounding between them. Those behind a Conv of their own are in its weights already; these follow a
    Concat, an Add or a pool.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc.
    """
    done = 0
    for scaling in graph.nodes("Mul"):
        shifting = graph.only_taker(scaling.output[0], "Add")
        if shifting is None:
            continue
        x, scale = _by_channel(graph, scaling)
        scaled, shift = _by_channel(graph, shifting)
        if scale is None or shift is None or scaled != scaling.output[0]:
            continue
        y = shifting.output[0]
        kernel = graph.constant(scale.reshape(-1, 1, 1, 1), f"{y}/scale")
        bias = graph.constant(shift, f"{y}/shift")
        conv = graph.node("Conv", [x, kernel, bias], y, group=scale.size, kernel_shape=[1, 1])
        graph.replace([scaling, shifting], [conv])
        done += 1
    return done


def _by_channel(graph: Graph, node: onnx.NodeProto) -> tuple[str, Array | None]:
    """What varies, and the constant by channel, float32 [C]."""
    for x, c in (tuple(node.input), tuple(reversed(node.input))):
        shape = graph.shape(x)
        values = along(graph.floats(c), shape, 1) if graph.value(x) is None else None
        if values is not None and shape is not None and len(shape) == 4:
            return x, values
    return "", None
