"""A clamp behind a sum, where the engine fuses clamps into convolutions alone."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Graph


def convolve_clamps(graph: Graph) -> int:
    """Clip(a + b) → Clip(a depthwise Conv1×1 with ones of a + b), for a + b [N, C, H, W] with a Conv's result in it.

    On x86, onnxruntime's blocked layout (NCHWc) has no Clip but the one fused into a Conv: alone it costs two reorderings, and all that
    follows, such as a Resize, leaves the layout with it. The products with 1 are exact.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc.
    """
    done = 0
    for clip in graph.nodes("Clip"):
        total = clip.input[0]
        shape, add = graph.shape(total), graph.maker(total, "Add")
        if shape is None or len(shape) != 4 or add is None or not graph.is_float(total):
            continue
        if graph.only_taker(total) is None or not any(graph.maker(n, "Conv") for n in add.input):
            continue
        if any(graph.value(name) is not None for name in add.input):
            continue
        ones = graph.constant(np.ones((shape[1], 1, 1, 1), np.float32), f"{total}/ones")
        same = graph.fresh(f"{total}/same")
        conv = graph.node("Conv", [total, ones], same, group=shape[1], kernel_shape=[1, 1])
        new = onnx.NodeProto()
        new.CopyFrom(clip)
        new.input[0] = same
        graph.replace([clip], [conv, new])
        done += 1
    return done
