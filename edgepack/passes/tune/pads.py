"""Zeros about an image, as the convolution's own padding."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from edgepack.passes.tune.graph import Array, Graph, attribute, is_a


def fold_pads(graph: Graph) -> int:
    """Conv(Pad(x)) → Conv with pads, for zeros about the spatial axes, also where several Convs share one Pad.

    onnxruntime's own fusion takes only a Pad that one Conv alone sees.
    """
    done = 0
    for pad in graph.nodes("Pad"):
        sizes = _spatial(added_zeros(graph, pad))
        if sizes is None:
            continue
        for conv in graph.takers(pad.output[0]):
            if not is_a(conv, "Conv") or conv.input[0] != pad.output[0]:
                continue
            if attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
                continue
            graph.replace([conv], [_padded(conv, pad.input[0], sizes)])
            done += 1
    return done


def added_zeros(graph: Graph, pad: onnx.NodeProto) -> list[int] | None:
    """How many zeros Pad adds: before each axis, then behind each; None if it adds something else, or cuts, or it is not known."""
    if attribute(pad, "mode", "constant") != "constant" or len(pad.input) > 3:
        return None
    if graph.opset < 11:
        sizes: list[int] | None = attribute(pad, "pads")
        fill: Array | None = np.array(attribute(pad, "value", 0.0))
    else:
        held = graph.value(pad.input[1])
        sizes = None if held is None else held.tolist()
        given = len(pad.input) > 2 and pad.input[2]
        fill = graph.value(pad.input[2]) if given else np.zeros(())
    if sizes is None or fill is None or fill.any() or min(sizes, default=0) < 0:
        return None
    return sizes


def _spatial(sizes: list[int] | None) -> list[int] | None:
    """Of those, the ones about the spatial axes, if there are no others."""
    rank = len(sizes or ()) // 2
    if sizes is None or rank < 3 or any(sizes[i] or sizes[rank + i] for i in (0, 1)):
        return None
    return [*sizes[2:rank], *sizes[rank + 2 :]]


def _padded(conv: onnx.NodeProto, x: str, sizes: list[int]) -> onnx.NodeProto:
    node = onnx.NodeProto()
    node.CopyFrom(conv)
    node.input[0] = x
    own = attribute(conv, "pads", [0] * len(sizes))
    kept = [a for a in conv.attribute if a.name not in ("pads", "auto_pad")]
    del node.attribute[:]
    node.attribute.extend(kept)
    pads = [a + b for a, b in zip(own, sizes, strict=True)]
    node.attribute.append(helper.make_attribute("pads", pads))
    return node
