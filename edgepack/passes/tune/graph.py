"""A graph under the knife: who makes a value, who takes it, what is constant, of what shape it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepack import onnxfile, weights
from edgepack.topology import fresh, in_order, taken, value_names

Array = NDArray[Any]


class Graph:
    """A model's main graph. Subgraphs and functions stay as they are; what a subgraph takes from outside counts as taken.

    A value is what one name stands for. After `replace` and `rename`, shapes of new values are unknown until `settle`.
    """

    def __init__(self, model: onnx.ModelProto, folder: Path) -> None:
        """Args:
        model: as `onnxfile.load` gives it; changed in place.
        folder: what references among its weights are relative to.
        """
        self.opset = onnxfile.opset(model)
        self.outputs = {v.name for v in model.graph.output}
        self._initializers: dict[str, TensorProto] = {}
        self._model = model
        self._folder = folder
        self._fed = {v.name for v in model.graph.input}
        self._taken_inside = {
            name for n in model.graph.node for name in Counter(taken(n)) - Counter(n.input)
        }
        self._names = value_names(model.graph)
        self._read()

    def nodes(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """The nodes there are now that are of ONNX's operators `kinds`; those replaced meanwhile are left out."""
        for node in [n for n in self._nodes.values() if is_a(n, *kinds)]:
            if id(node) in self._nodes:
                yield node

    def maker(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The node that makes a value, if it is one of ONNX's operators `kinds`; None for inputs and constants."""
        node = self._makers.get(name)
        return node if node is not None and is_a(node, *kinds) else None

    def takers(self, name: str) -> list[onnx.NodeProto]:
        """The nodes that take a value; one that takes it twice stands there twice, as does one whose subgraph takes it."""
        return list(self._takers.get(name, []))

    def only_taker(self, name: str, *kinds: str) -> onnx.NodeProto | None:
        """The one node that takes a value which nothing else sees, if it is one of ONNX's operators `kinds`."""
        takers = self._takers.get(name, [])
        alone = len(takers) == 1 and name not in self.outputs
        return takers[0] if alone and is_a(takers[0], *kinds) else None

    def is_hidden(self, name: str) -> bool:
        """Whether only nodes of this graph see a value: it is no output, and no subgraph takes it."""
        return name not in self.outputs and name not in self._taken_inside

    def shape(self, name: str) -> tuple[int, ...] | None:
        """All sizes of a value; None where one is free or unknown."""
        tensor = self._initializers.get(name)
        return tuple(tensor.dims) if tensor is not None else self._shapes.get(name)

    def is_float(self, name: str) -> bool:
        """Whether a value is known to be of float32."""
        tensor = self._initializers.get(name)
        kind = self._types.get(name) if tensor is None else tensor.data_type
        return bool(kind == TensorProto.FLOAT)

    def value(self, name: str) -> Array | None:
        """A constant, not to be written into; None for what is not one."""
        maker = self._makers.get(name)
        tensor = self._initializers.get(name) if maker is None else onnxfile.constant(maker)
        return None if tensor is None or name in self._fed else weights.array(tensor, self._folder)

    def is_constant(self, name: str) -> bool:
        """Whether a value is a constant, or computed of constants alone."""
        waiting, seen = [name], {name}
        while waiting:
            at = waiting.pop()
            node = self._makers.get(at)
            if node is None and (at in self._fed or at not in self._initializers):
                return False
            more = set() if node is None else set(taken(node)) - seen
            waiting += more
            seen |= more
        return True

    def floats(self, name: str) -> Array | None:
        """A constant, if it is of float32."""
        values = self.value(name) if self.is_float(name) else None
        return values if values is not None and values.dtype == np.float32 else None

    def fresh(self, hint: str) -> str:
        """A name that nothing has, the same in every run: the hint, or that with a number."""
        return fresh(hint, self._names)

    def constant(self, values: Array, hint: str) -> str:
        """The name of a new constant."""
        name = self.fresh(hint)
        self._initializers[name] = numpy_helper.from_array(np.array(values, order="C"), name)
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
        """A new node, named after what it makes; it is not in the graph yet."""
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    def replace(self, old: Iterable[onnx.NodeProto], new: Iterable[onnx.NodeProto]) -> None:
        """Put `new` in the place of `old`; what others still take must be made again under its name."""
        for node in old:
            del self._nodes[id(node)]
            for name in node.output:
                self._makers.pop(name, None)
            for name in taken(node):
                self._takers[name] = [n for n in self._takers[name] if n is not node]
        for node in new:
            self._add(node)

    def rename(self, old: str, new: str) -> None:
        """Let all that take `old`, which must be hidden, take `new`."""
        for node in self._takers.pop(old, []):
            for i, name in enumerate(node.input):
                if name == old:
                    node.input[i] = new
                    self._takers.setdefault(new, []).append(node)

    def forget_shape(self, name: str) -> None:
        """A value keeps its name and gets another shape, which `settle` finds out."""
        self._shapes.pop(name, None)
        self._stale.add(name)

    def settle(self) -> None:
        """Drop what nothing takes, sort the nodes, and infer shapes anew."""
        self._drop_dead()
        graph = self._model.graph
        ordered = in_order(list(self._nodes.values()))
        kept = [v for v in graph.value_info if v.name in self._makers and v.name not in self._stale]
        initializers = list(self._initializers.values())
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(ordered)
        graph.initializer.extend(initializers)
        graph.value_info.extend(kept)
        self._read()

    def _drop_dead(self) -> None:
        waiting = list(self._nodes.values())
        while waiting:
            node = waiting.pop()
            seen = any(self._takers.get(o) or o in self.outputs for o in node.output if o)
            if seen or id(node) not in self._nodes:
                continue
            before = [self._makers[n] for n in taken(node) if n in self._makers]
            self.replace([node], [])
            waiting += before
        self._initializers = {
            n: i
            for n, i in self._initializers.items()
            if self._takers.get(n) or n in self.outputs or n in self._fed
        }

    def _read(self) -> None:
        graph = self._model.graph
        self._stale: set[str] = set()
        self._initializers = {i.name: i for i in graph.initializer}
        self._nodes: dict[int, onnx.NodeProto] = {}
        self._makers: dict[str, onnx.NodeProto] = {}
        self._takers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            self._add(node)
        inferred = onnx.shape_inference.infer_shapes(self._model).graph
        del graph.value_info[:]
        graph.value_info.extend(inferred.value_info)
        self._types: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        for v in (*graph.input, *graph.output, *graph.value_info):
            tensor = v.type.tensor_type
            self._types[v.name] = tensor.elem_type
            sizes = tuple(d.dim_value for d in tensor.shape.dim)
            if tensor.HasField("shape") and all(sizes):
                self._shapes[v.name] = sizes

    def _add(self, node: onnx.NodeProto) -> None:
        self._nodes[id(node)] = node
        self._makers.update((name, node) for name in node.output if name)
        for name in taken(node):
            self._takers.setdefault(name, []).append(node)


def is_a(node: onnx.NodeProto, *kinds: str) -> bool:
    """Whether a node is one of ONNX's operators `kinds`; any of them, without."""
    return node.domain in onnxfile.ONNX_DOMAINS and (not kinds or node.op_type in kinds)


def along(values: Array | None, shape: tuple[int, ...] | None, axis: int) -> Array | None:
    """What a constant holds along one axis of a value, [size]; None where it varies along another, would enlarge the value, or
    the value has no such axis.

    Args: shape: the value's, if it is known.
    """
    if values is None or shape is None or values.ndim > len(shape) or axis >= len(shape):
        return None
    sizes = (1,) * (len(shape) - values.ndim) + values.shape
    if any(size not in ((1, shape[axis]) if i == axis else (1,)) for i, size in enumerate(sizes)):
        return None
    return np.broadcast_to(values.reshape(-1), (shape[axis],))


def dense_conv(
    graph: Graph, conv: onnx.NodeProto
) -> tuple[tuple[int, ...], tuple[int, ...], Array] | None:
    """The shapes of a Conv's input and output and its kernel, float32 [outputs, inputs, height, width]; None unless all of it is known:
    two-dimensional, of one group, undilated, its padding in numbers, its weight and bias constants."""
    x, y = graph.shape(conv.input[0]), graph.shape(conv.output[0])
    kernel = graph.floats(conv.input[1])
    known = all(graph.floats(name) is not None for name in conv.input[1:] if name)
    if x is None or y is None or len(x) != 4 or kernel is None or not known:
        return None
    plain = (
        attribute(conv, "group", 1) == 1
        and set(attribute(conv, "dilations", [1])) == {1}
        and attribute(conv, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
    return (x, y, kernel) if plain else None


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """An attribute's value: a number, text, a list, or a tensor."""
    for held in node.attribute:
        if held.name == name:
            value = helper.get_attribute_value(held)
            return value.decode() if isinstance(value, bytes) else value
    return default
