"""Layers of a model cut off from all others, to be run on values that come from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgepack.divergence.graph import Graph, Layer
from edgepack.divergence.measure import Side
from edgepack.divergence.probe import Kind
from edgepack.topology import subgraphs

#: What stands before the names of islands' tensors; no tool writes such.
_PREFIX = "edgepack/island"
#: A layer further from everything known than this tells nothing of one layer.
_LARGEST = 16


@dataclass(frozen=True, kw_only=True)
class Island:
    """The layers between some known tensors and one that they make.

    Attributes:
        tensor: what they make.
        layers: in topological order.
        needs: the known tensors they make it from.
    """

    tensor: str
    layers: tuple[Layer, ...]
    needs: tuple[str, ...]


def island(graph: Graph, tensor: str, known: Collection[str]) -> Island | None:
    """The fewest layers that make a float tensor from known ones.

    None for an input of the model, and where a layer has a subgraph, something has no array form, or they are more than _LARGEST.
    """
    made = graph.tensors[tensor]
    if made.layer is None or not made.is_float:
        return None
    layers, needs = {made.layer.index: made.layer}, dict[str, None]()
    waiting = [made.layer]
    while waiting:
        layer = waiting.pop()
        if list(subgraphs(layer.proto)):
            return None
        for _, name in layer.inputs:
            source = graph.tensors[name].layer
            if name in known:
                needs[name] = None
            elif source is None or len(layers) == _LARGEST:
                return None
            elif source.index not in layers:
                layers[source.index] = source
                waiting.append(source)
    if any(graph.tensors[n].kind.type == "tensor(bfloat16)" for n in needs):
        return None
    ordered = tuple(layers[i] for i in sorted(layers))
    return Island(tensor=tensor, layers=ordered, needs=tuple(needs))


class Sea:
    """Several islands of one model in one graph."""

    def __init__(self, side: Side, islands: Sequence[Island]) -> None:
        """Raises StepError: onnxruntime refuses a layer by itself."""
        self._side = side
        self.needs = list(dict.fromkeys(n for i in islands for n in i.needs))
        self._names = [i.tensor for i in islands]
        #: What is given, by the name it is given under: (tensor, its type in that place).
        self._given: dict[str, tuple[str, Kind]] = {}
        proto = onnx.ModelProto()
        proto.CopyFrom(side.probe.proto)
        for edges in (proto.graph.node, proto.graph.input, proto.graph.output):
            del edges[:]
        root = side.graph.root
        proto.graph.node.extend(n for n in side.probe.nodes if not any(o in root for o in n.output))
        for number, one in enumerate(islands):
            self._add(one, number, proto)
        for name, (_, kind) in self._given.items():
            element = helper.np_dtype_to_tensor_dtype(np.dtype(_numpy(kind)))
            proto.graph.input.append(helper.make_tensor_value_info(name, element, None))
        self._outputs = [f"{_PREFIX}{i}/{n}" for i, n in enumerate(self._names)]
        proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in self._outputs)
        self._session = side.probe.session(proto)

    def run(self, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Each island's tensor, made from `values` of what it needs, by name."""
        feed = {}
        for given, (name, kind) in self._given.items():
            x = values[name].astype(_numpy(kind), copy=False)
            # Paired by its values, a tensor may have another shape.
            fits = (
                kind.shape is None or x.ndim == len(kind.shape) or x.size != math.prod(kind.shape)
            )
            feed[given] = np.ascontiguousarray(x if fits else x.reshape(kind.shape))
        found = self._side.probe.run(self._session, self._outputs, feed)
        return dict(zip(self._names, found, strict=True))

    def _add(self, one: Island, number: int, proto: onnx.ModelProto) -> None:
        """One island's nodes, with the casts and copies between them."""
        graph = self._side.graph
        inside = {n for layer in one.layers for _, n in layer.outputs} - set(one.needs)
        own = {layer.proto.output[0] for layer in one.layers}
        for node in self._side.probe.nodes:
            carried = node.output[0] in graph.root and graph.root[node.output[0]] in inside
            if not (node.output[0] in own or carried) or not any(
                n in graph.root for n in node.output
            ):
                continue
            copy = proto.graph.node.add()
            copy.CopyFrom(node)
            copy.name = f"{_PREFIX}{number}/{node.name}"
            for place, name in enumerate(node.input):
                if name not in graph.root:
                    continue
                source = graph.root[name]
                if source in inside:
                    copy.input[place] = f"{_PREFIX}{number}/{name}"
                else:
                    copy.input[place] = f"{_PREFIX}/{name}"
                    self._given[copy.input[place]] = (source, graph.kinds[name])
            for place, name in enumerate(node.output):
                copy.output[place] = name and f"{_PREFIX}{number}/{name}"


def _numpy(kind: Kind) -> str:
    """The numpy dtype of an onnxruntime type."""
    name = kind.type.removeprefix("tensor(").removesuffix(")")
    return {"float": "float32", "double": "float64"}.get(name, name)
