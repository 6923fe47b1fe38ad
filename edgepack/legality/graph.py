"""A finished graph as rules look at it: nodes, who makes and who takes each value, types, shapes, constants."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from edgepack import onnxfile, weights
from edgepack.artifact import Dim, Format, ModelFile
from edgepack.legality.inference import typed
from edgepack.topology import in_order, subgraphs, taken


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One operator in the graph.

    Attributes:
        inside: the control-flow node in whose body it stands; None at the top.
    """

    proto: onnx.NodeProto
    inside: Node | None = None

    @property
    def name(self) -> str:
        """Its name, or what it makes where it has none."""
        return self.proto.name or f"(makes {', '.join(self.outputs)})"

    @property
    def operator(self) -> str:
        """`Conv`, or with its domain where that is not ONNX's own: `com.microsoft.FusedConv`."""
        domain = "" if self.proto.domain in onnxfile.ONNX_DOMAINS else f"{self.proto.domain}."
        return f"{domain}{self.proto.op_type}"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names in order; empty for one that is left out."""
        return tuple(self.proto.input)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what it makes."""
        return tuple(name for name in self.proto.output if name)

    @property
    def takes(self) -> tuple[str, ...]:
        """Names of all it needs, what its bodies take from outside too."""
        return tuple(dict.fromkeys(taken(self.proto)))

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value (texts as str), or `default`."""
        for attribute in self.proto.attribute:
            if attribute.name == name:
                value = helper.get_attribute_value(attribute)
                return value.decode(errors="replace") if isinstance(value, bytes) else value
        return default


class GraphView:
    """A model's graph with everything resolved that a rule may ask for. Its weights stay on disk.

    Attributes:
        nodes: those of the graph itself in topological order, without Constant nodes.
        all_nodes: with those in the bodies of control flow.
        inputs, outputs: names at the edges.
        files: (name, bytes) of the files the model lies in; none for one that is in memory alone.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        folder: Path,
        *,
        files: Sequence[tuple[str, int]] = (),
    ) -> None:
        """Args:
        folder: what references among the weights are relative to.
        """
        self.model = typed(model, folder)
        self.files = tuple(files)
        self._folder = folder
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._types: dict[str, onnx.TypeProto] = {}
        self._makers: dict[str, Node] = {}
        self._takers: dict[str, list[Node]] = {}
        graph = self.model.graph
        self.all_nodes = tuple(self._enter(graph, None))
        self.nodes = tuple(n for n in self.all_nodes if n.inside is None)
        given = {i.name for i in graph.initializer}
        self.inputs = tuple(v.name for v in graph.input if v.name not in given)
        self.outputs = tuple(v.name for v in graph.output)

    @staticmethod
    def of(model: ModelFile) -> GraphView:
        """The graph in a file, .onnx or .ort."""
        files = [(p.name, p.stat().st_size) for p in (model.path, *model.beside)]
        if model.format is Format.ORT:
            from edgepack import ortfile

            return GraphView(ortfile.read(model.path), model.path.parent, files=files)
        return GraphView(onnxfile.load(model), model.path.parent, files=files)

    def _enter(self, graph: onnx.GraphProto, inside: Node | None) -> Iterator[Node]:
        """The nodes of a graph and its bodies, their values noted."""
        self._tensors.update((i.name, i) for i in graph.initializer)
        for value in (*graph.input, *graph.output, *graph.value_info):
            self._types.setdefault(value.name, value.type)
        for proto in in_order(graph.node):
            tensor = onnxfile.constant(proto)
            if tensor is not None:
                self._tensors[proto.output[0]] = tensor
                continue
            node = Node(proto=proto, inside=inside)
            self._makers.update((name, node) for name in node.outputs)
            for name in (
                node.takes if inside is None else dict.fromkeys(n for n in node.inputs if n)
            ):
                self._takers.setdefault(name, []).append(node)
            yield node
            for body in subgraphs(proto):
                yield from self._enter(body, node)

    def bodies(self, node: Node) -> tuple[Node, ...]:
        """The nodes in a control-flow node's bodies, one level down."""
        return self._inside.get(node, ())

    @cached_property
    def _inside(self) -> Mapping[Node, tuple[Node, ...]]:
        found: dict[Node, list[Node]] = {}
        for node in self.all_nodes:
            if node.inside is not None:
                found.setdefault(node.inside, []).append(node)
        return {node: tuple(nodes) for node, nodes in found.items()}

    def maker(self, name: str) -> Node | None:
        """The node that makes a value; None for inputs and constants."""
        return self._makers.get(name)

    def takers(self, name: str) -> Sequence[Node]:
        """The nodes that take a value."""
        return self._takers.get(name, ())

    def is_constant(self, name: str) -> bool:
        """Whether a value stands in the file."""
        return name in self._tensors

    def constant(self, name: str) -> NDArray[Any] | None:
        """A constant's values (mapped where they are many), or None for what is no constant."""
        tensor = self._tensors.get(name)
        return None if tensor is None else weights.array(tensor, self._folder)

    def dtype(self, name: str) -> str | None:
        """A value's element type by numpy's name (`string` for texts); None where it is not known."""
        if name in self._tensors:
            return _dtype(self._tensors[name].data_type)
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.elem_type:
            return None
        return _dtype(kind.tensor_type.elem_type)

    def shape(self, name: str) -> tuple[Dim, ...] | None:
        """A value's shape: sizes, names of free dimensions (`?` without one); None where even its rank is not known."""
        if name in self._tensors:
            return tuple(self._tensors[name].dims)
        kind = self._types.get(name)
        if kind is None or not kind.tensor_type.HasField("shape"):
            return None
        return tuple(
            d.dim_value if d.HasField("dim_value") else d.dim_param or "?"
            for d in kind.tensor_type.shape.dim
        )

    @property
    def opset(self) -> int:
        """The version of ONNX's own operator set; 0 if it is not imported."""
        return onnxfile.opset(self.model)


def is_static(shape: tuple[Dim, ...] | None) -> bool:
    """Whether every size is known."""
    return shape is not None and not any(isinstance(d, str) for d in shape)


def _dtype(kind: int) -> str:
    if kind == onnx.TensorProto.STRING:
        return "string"
    return str(helper.tensor_dtype_to_np_dtype(kind).name)
