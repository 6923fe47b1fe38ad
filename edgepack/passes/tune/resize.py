"""Enlarge after a 1×1 convolution, not before it."""

from __future__ import annotations

import math

import onnx

from edgepack.passes.tune.graph import Graph, attribute

_MODES = ("nearest", "linear", "cubic")


def resize_later(graph: Graph) -> int:
    """Conv1×1(Resize(x)) → Resize(Conv1×1(x)), where Resize enlarges height and width and the Conv adds no channels.

    The Conv mixes channels at each place, Resize mixes places in each channel with weights that sum to 1, bias included: the two
    commute. Both then have less to do.
    """
    done = 0
    for resize in graph.nodes("Resize"):
        conv = graph.only_taker(resize.output[0], "Conv")
        if conv is None or conv.input[0] != resize.output[0]:
            continue
        if not _is_pointwise(graph, conv) or not _enlarges(graph, resize):
            continue
        y = conv.output[0]
        small, channels = graph.shape(resize.input[0]), graph.shape(y)
        if small is None or channels is None or channels[1] > small[1]:
            continue
        mixed = graph.fresh(f"{y}/small")
        first, last = onnx.NodeProto(), onnx.NodeProto()
        first.CopyFrom(conv)
        last.CopyFrom(resize)
        first.input[0], first.output[0] = resize.input[0], mixed
        last.input[0], last.output[0] = mixed, y
        graph.replace([resize, conv], [first, last])
        done += 1
    return done


def _is_pointwise(graph: Graph, conv: onnx.NodeProto) -> bool:
    kernel = graph.shape(conv.input[1])
    plain = all(
        set(attribute(conv, name, [value])) == {value}
        for name, value in (("strides", 1), ("dilations", 1), ("pads", 0))
    )
    return plain and attribute(conv, "group", 1) == 1 and (kernel or ())[2:] == (1, 1)


def _enlarges(graph: Graph, resize: onnx.NodeProto) -> bool:
    """Whether only height and width grow, by weights that sum to 1, given as scales."""
    before, after = graph.shape(resize.input[0]), graph.shape(resize.output[0])
    scales = graph.floats(resize.input[2]) if len(resize.input) == 3 else None
    if before is None or after is None or len(before) != 4 or scales is None or scales.size != 4:
        return False
    fills = attribute(resize, "coordinate_transformation_mode") == "tf_crop_and_resize"
    plain = attribute(resize, "mode", "nearest") in _MODES and attribute(resize, "axes") is None
    spatial = bool((scales[:2] == 1).all())
    return spatial and plain and not fills and math.prod(after) > math.prod(before)
