"""A graph as its layers see it: quantizers, casts and copies taken for what they carry, weights left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto

from edgepack.divergence.probe import FLOATS, Kind, Probe, Tap
from edgepack.divergence.scales import Scale, scales
from edgepack.prove.engine import Tensors
from edgepack.topology import constants, taken

#: Operators whose output is their first input in another form.
_CARRIERS = ("QuantizeLinear", "DequantizeLinear", "Identity")
_FLOAT_TYPES = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16)
_NUMBERS = (*FLOATS, "tensor(int", "tensor(uint", "tensor(bool", "tensor(float8")


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One node that computes something.

    Attributes:
        inputs: (place among the node's inputs, tensor), for inputs that are no weights; captured ones have place −1.
        outputs: (place, tensor).
        weights: shapes of the weights it takes, sorted.
        proto: the node itself.
    """

    index: int
    name: str
    operator: str
    inputs: tuple[tuple[int, str], ...]
    outputs: tuple[tuple[int, str], ...]
    weights: tuple[tuple[int, ...], ...]
    proto: onnx.NodeProto = field(repr=False, compare=False)


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value between layers, whatever forms it takes on its way.

    Attributes:
        name: what the layer that makes it, or the model's input, is called.
        aliases: the names of all its forms: before, in between and after QuantizeLinear/DequantizeLinear, casts and copies.
        tap: the form that its consumers see, as floats.
        kind: the type and shape of that form.
        layer: what makes it; None for an input of the model.
        quantized: whether integers with a scale stand for it somewhere.
    """

    name: str
    position: int
    aliases: frozenset[str]
    tap: Tap
    kind: Kind
    layer: Layer | None
    quantized: bool

    @property
    def is_number(self) -> bool:
        """Whether it can be compared: a tensor of numbers or truth values."""
        return self.kind.shape is not None and self.kind.type.startswith(_NUMBERS)

    @property
    def is_float(self) -> bool:
        """Whether it holds floats, or integers that stand for some."""
        return self.tap.scale is not None or self.kind.type in FLOATS


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Layers and tensors in topological order.

    Attributes:
        root: the tensor that each name is a form of.
        outputs: the model's output names by the tensor that comes out there.
        kinds: type and shape of every name.
    """

    layers: tuple[Layer, ...]
    tensors: dict[str, Tensor]
    root: dict[str, str]
    outputs: dict[str, tuple[str, ...]]
    kinds: dict[str, Kind]

    @property
    def consumers(self) -> dict[str, list[tuple[int, Layer]]]:
        """(place, layer) for each layer that takes a tensor, by the tensor."""
        found: dict[str, list[tuple[int, Layer]]] = defaultdict(list)
        for layer in self.layers:
            for place, name in layer.inputs:
                found[name].append((place, layer))
        return found


def read_graph(probe: Probe, feed: Tensors) -> Graph:
    """The probe's model as a graph, with types and shapes as they are on `feed`."""
    kinds = probe.kinds(feed)
    inputs = [s.name for s in probe.inputs]
    kinds |= {i.name: Kind(type="", shape=tuple(i.dims)) for i in probe.proto.graph.initializer}
    kinds |= {s.name: Kind(type=_TYPES[s.dtype], shape=feed[s.name].shape) for s in probe.inputs}
    held = {i.name for i in probe.proto.graph.initializer}.difference(inputs)
    constant = constants(probe.nodes, held)
    root = {n: n for n in inputs}
    layers: list[Layer] = []
    for node in probe.nodes:
        live = [n for n in node.output if n and n not in constant]
        if not live:
            continue
        if _carries(node, kinds) and node.input[0] in root:
            root[node.output[0]] = root[node.input[0]]
            continue
        root |= {n: n for n in live}
        layers.append(_layer(node, len(layers), root, constant, kinds))
    made = {name: layer for layer in layers for _, name in layer.outputs}
    tensors = _Tensors(probe, root, kinds).all((*inputs, *made), made)
    outputs: dict[str, tuple[str, ...]] = {}
    for output in probe.outputs:
        if output.name in root:
            name = root[output.name]
            outputs[name] = (*outputs.get(name, ()), output.name)
    return Graph(layers=tuple(layers), tensors=tensors, root=root, outputs=outputs, kinds=kinds)


#: numpy's names of inputs' dtypes → onnxruntime's.
_TYPES = {
    "float32": "tensor(float)",
    "float64": "tensor(double)",
    **{
        name: f"tensor({name})"
        for name in (
            *("float16", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64"),
            *("uint64", "bool"),
        )
    },
}


class _Tensors:
    """Which form of each value its consumers see."""

    def __init__(self, probe: Probe, root: dict[str, str], kinds: dict[str, Kind]) -> None:
        self._root, self._kinds = root, kinds
        self._scales: dict[str, Scale] = scales(probe.nodes)
        self._maker = {n: node.op_type for node in probe.nodes for n in node.output}
        self._seen = {o.name for o in probe.outputs}
        for node in probe.nodes:
            if not _carries(node, kinds):
                self._seen |= set(taken(node))
        self._forms: dict[str, list[str]] = defaultdict(list)
        for name, of in root.items():
            self._forms[of].append(name)

    def all(self, names: Sequence[str], made: dict[str, Layer]) -> dict[str, Tensor]:
        result = {}
        for position, name in enumerate(names):
            forms = self._forms[name]
            tap = self._tap(name, forms)
            result[name] = Tensor(
                name=name,
                position=position,
                aliases=frozenset(forms),
                tap=tap,
                kind=self._kinds[tap.name],
                layer=made.get(name),
                quantized=any(f in self._scales for f in forms),
            )
        return result

    def _tap(self, name: str, forms: list[str]) -> Tap:
        seen = [f for f in forms if f in self._seen] or [name]
        dequantized = [f for f in seen if self._maker.get(f) == "DequantizeLinear"]
        floats = [f for f in seen if self._kinds[f].type in FLOATS]
        integers = [f for f in seen if f in self._scales]
        if dequantized or floats:
            return Tap(name=(dequantized or floats)[0])
        if integers:
            return Tap(name=integers[0], scale=self._scales[integers[0]])
        return Tap(name=seen[0])


def _layer(
    node: onnx.NodeProto,
    index: int,
    root: dict[str, str],
    constant: set[str],
    kinds: dict[str, Kind],
) -> Layer:
    direct = [(i, n) for i, n in enumerate(node.input) if n in root]
    captured = {n for n in taken(node) if n in root} - set(node.input)
    shapes = [kinds[n].shape or () for n in node.input if n in constant and n in kinds]
    return Layer(
        index=index,
        name=node.name or node.output[0],
        operator=node.op_type,
        inputs=(*((i, root[n]) for i, n in direct), *((-1, root[n]) for n in sorted(captured))),
        outputs=tuple((i, n) for i, n in enumerate(node.output) if n and n not in constant),
        weights=tuple(sorted(s for s in shapes if len(s) > 1)),
        proto=node,
    )


def _carries(node: onnx.NodeProto, kinds: dict[str, Kind]) -> bool:
    """Whether the output is the first input in another form: quantized, cast from float to float, or as it is."""
    if node.op_type in _CARRIERS:
        return True
    if node.op_type != "Cast":
        return False
    to = next((a.i for a in node.attribute if a.name == "to"), 0)
    kind = kinds.get(node.input[0])
    return to in _FLOAT_TYPES and kind is not None and kind.type in FLOATS
