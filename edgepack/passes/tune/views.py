"""Chains of operators that only say the shape of a value anew, as one of them or none."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Graph, attribute, is_a

_KINDS = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Transpose")


def merge_views(graph: Graph) -> int:
    """Reshape, Squeeze, Unsqueeze, Flatten, and Transpose that moves sizes of 1 alone, one after another → one Reshape, or none.

    Squeeze-and-excite blocks come with three to four of them each. On x86 every one ends onnxruntime's blocked layout.
    """
    done = 0
    for node in graph.nodes(*_KINDS):
        shape, root = graph.shape(node.output[0]), node.input[0]
        if shape is None or not _is_view(graph, node):
            continue
        before = graph.maker(root, *_KINDS)
        while before is not None and _is_view(graph, before):
            root = before.input[0]
            before = graph.maker(root, *_KINDS)
        if graph.shape(root) == shape and graph.is_hidden(node.output[0]):
            graph.rename(node.output[0], root)
            graph.replace([node], [])
        elif root == node.input[0] and not is_a(node, "Transpose"):
            continue
        else:
            sizes = graph.constant(np.array(shape, np.int64), f"{node.output[0]}/shape")
            graph.replace([node], [graph.node("Reshape", [root, sizes], node.output[0])])
        done += 1
    return done


def _is_view(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether the elements keep their order."""
    shape = graph.shape(node.input[0])
    if shape is None or graph.shape(node.output[0]) is None:
        return False
    if not is_a(node, "Transpose"):
        return True
    order = attribute(node, "perm", list(reversed(range(len(shape)))))
    moved = [axis for axis in order if shape[axis] != 1]
    return moved == sorted(moved)
