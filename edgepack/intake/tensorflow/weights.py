"""Weights that stay outside of a graph: what the graph does to them alone is done to their values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepack.topology import taken

Reader = Callable[[], NDArray[Any]]


def fold_weights(graph: onnx.GraphProto, weights: Mapping[str, Reader]) -> dict[str, Reader]:
    """The weights by the names they have once nodes that only turn or reshape one of them are gone from the graph.

    tf2onnx turns a convolution's kernel from TensorFlow's order into ONNX' by a node where it does not have the values. A weight
    that something else reads too keeps its node: two copies would cost more.
    """
    readers = dict(weights)
    constants = {i.name: i for i in graph.initializer}
    users = Counter(n for node in graph.node for n in taken(node))
    users.update(o.name for o in graph.output)
    folded = set()
    for place, node in enumerate(graph.node):
        source = node.input[0] if node.input else ""
        if source not in readers or users[source] > 1 or node.op_type not in _FOLDS:
            continue
        if any(n not in constants for n in node.input[1:]):
            continue
        arguments = [numpy_helper.to_array(constants[n]) for n in node.input[1:]]
        readers[node.output[0]] = partial(_folded, node, readers.pop(source), arguments)
        folded.add(place)
    for place in sorted(folded, reverse=True):
        del graph.node[place]
    return readers


def _folded(node: onnx.NodeProto, read: Reader, arguments: list[NDArray[Any]]) -> NDArray[Any]:
    return np.ascontiguousarray(_FOLDS[node.op_type](node, read(), *arguments))


def _transpose(node: onnx.NodeProto, value: NDArray[Any]) -> NDArray[Any]:
    perm = next((list(a.ints) for a in node.attribute if a.name == "perm"), None)
    return np.transpose(value, perm)


def _reshape(node: onnx.NodeProto, value: NDArray[Any], shape: NDArray[Any]) -> NDArray[Any]:
    return value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(shape)])


#: By operator: its node, the weight, and its other inputs → the new weight.
_FOLDS: dict[str, Callable[..., NDArray[Any]]] = {
    "Identity": lambda node, value: value,
    "Reshape": _reshape,
    "Squeeze": lambda node, value, axes: np.squeeze(value, tuple(axes)),
    "Transpose": _transpose,
    "Unsqueeze": lambda node, value, axes: np.expand_dims(value, tuple(axes)),
}
