"""A depthwise convolution of few channels, and the pointwise one behind it, as a dense one."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, attribute

#: Below, a depthwise integer kernel has no whole vector of channels; up to half of it, one with all products is quicker.
_LANES = 16
_FEW = _LANES // 2


def join_separable(graph: Graph) -> int:
    """Conv1×1(depthwise Conv(x)) of less than 16 channels → one Conv with the product of both kernels; other depthwise Convs of up to 8 →
    one with zeros between different channels.

    More products, but of a kind that integer kernels are good at. For INT8: one rounding less, and less time on x86.
    """
    done = 0
    for deep in graph.nodes("Conv"):
        point = graph.only_taker(deep.output[0], "Conv")
        kernel, mixing = graph.floats(deep.input[1]), None
        if kernel is None or not _fit(deep, kernel):
            continue
        if point is not None and point.input[0] == deep.output[0]:
            mixing = graph.floats(point.input[1])
        if mixing is None or point is None or not _mixes(point, mixing):
            done += _dense(graph, deep, kernel)
            continue
        biases = [_bias(graph, node) for node in (deep, point)]
        if any(b is None for b in biases):
            continue
        graph.replace([deep, point], [_joined(graph, deep, point, kernel, mixing, biases)])
        done += 1
    return done


def _fit(deep: onnx.NodeProto, kernel: Array) -> bool:
    group = attribute(deep, "group", 1)
    alone = kernel.ndim == 4 and kernel.shape[1] == 1 and group == kernel.shape[0]
    return alone and 1 < group < _LANES


def _dense(graph: Graph, deep: onnx.NodeProto, kernel: Array) -> int:
    if len(kernel) > _FEW:
        return 0
    dense = np.eye(len(kernel), dtype=np.float32)[:, :, None, None] * kernel
    node = _whole(deep, [graph.constant(dense, f"{deep.output[0]}/kernel"), *deep.input[2:]])
    graph.replace([deep], [node])
    return 1


def _whole(deep: onnx.NodeProto, constants: list[str]) -> onnx.NodeProto:
    """The node, with these constants and no groups."""
    node = onnx.NodeProto()
    node.CopyFrom(deep)
    del node.input[1:]
    node.input.extend(constants)
    kept = [a for a in node.attribute if a.name != "group"]
    del node.attribute[:]
    node.attribute.extend(kept)
    return node


def _mixes(point: onnx.NodeProto, mixing: Array) -> bool:
    plain = all(
        set(attribute(point, name, [value])) == {value}
        for name, value in (("strides", 1), ("pads", 0))
    )
    return plain and mixing.shape[2:] == (1, 1) and attribute(point, "group", 1) == 1


def _bias(graph: Graph, conv: onnx.NodeProto) -> Array | None:
    if len(conv.input) < 3 or not conv.input[2]:
        return np.zeros(1)
    return graph.floats(conv.input[2])


def _joined(
    graph: Graph,
    deep: onnx.NodeProto,
    point: onnx.NodeProto,
    kernel: Array,
    mixing: Array,
    biases: list[Array | None],
) -> onnx.NodeProto:
    first, last = biases
    assert first is not None
    assert last is not None
    y = point.output[0]
    mix = mixing[:, :, 0, 0].astype(np.float64)
    joined = mix[:, :, None, None] * kernel[None, :, 0]
    bias = mix @ np.broadcast_to(first, kernel.shape[:1]) + last
    constants = [
        graph.constant(joined.astype(np.float32), f"{y}/kernel"),
        graph.constant(bias.astype(np.float32), f"{y}/bias"),
    ]
    node = _whole(deep, constants)
    node.output[0] = y
    return node
