"""Channels of zeros that a shortcut gets, as a convolution that takes the sum behind it along."""

from __future__ import annotations

import numpy as np

from edgepack.passes.tune.graph import Graph
from edgepack.passes.tune.pads import added_zeros


def convolve_channel_pads(graph: Graph) -> int:
    """Add(a, Pad(x)) → Add(a, Conv1×1(x)), where Pad adds channels of zeros to x [N, C, H, W] and the Conv's kernel is the identity.

    On x86, onnxruntime keeps such a Conv in its blocked layout, with the Add and the Relu behind it fused into it; Pad costs two
    reorderings, and neither is fused. The products with 0 and 1 are exact.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc.
    """
    done = 0
    for pad in graph.nodes("Pad"):
        shape, zeros = graph.shape(pad.input[0]), added_zeros(graph, pad)
        if shape is None or len(shape) != 4 or zeros is None or not graph.is_float(pad.input[0]):
            continue
        before, after = zeros[1], zeros[5]
        spatial = [n for i, n in enumerate(zeros) if i not in (1, 5)]
        if any(spatial) or graph.only_taker(pad.output[0], "Add") is None:
            continue
        kernel = np.eye(before + shape[1] + after, shape[1], -before, dtype=np.float32)
        y = pad.output[0]
        held = graph.constant(kernel[:, :, None, None], f"{y}/identity")
        graph.replace([pad], [graph.node("Conv", [pad.input[0], held], y, kernel_shape=[1, 1])])
        done += 1
    return done
