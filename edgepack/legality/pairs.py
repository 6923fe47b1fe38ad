"""Quantization in a graph: which tensors are integers with a scale, and what part they play."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from edgepack.legality.graph import GraphView, Node

Role = Literal["activation", "weight", "bias"]
QUANTIZE = ("QuantizeLinear", "com.microsoft.QuantizeLinear")
DEQUANTIZE = ("DequantizeLinear", "com.microsoft.DequantizeLinear")
PAIR = (*QUANTIZE, *DEQUANTIZE)
#: Operators on integers with scales of their own: (tensor, scale, zero point) among their inputs. −1 as tensor is the first output,
#: as scale none.
#: Source: onnx, docs/Operators.md; onnxruntime, docs/ContribOperators.md.
_INTEGER: Mapping[str, tuple[tuple[int, int, int], ...]] = {
    "QLinearConv": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "com.microsoft.QLinearConv": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "QLinearMatMul": ((0, 1, 2), (3, 4, 5), (-1, 6, 7)),
    "com.microsoft.QGemm": ((0, 1, 2), (3, 4, 5), (-1, 7, 8)),
    "com.microsoft.MatMulIntegerToFloat": ((0, 2, 4), (1, 3, 5)),
    "ConvInteger": ((0, -1, 2), (1, -1, 3)),
    "MatMulInteger": ((0, -1, 2), (1, -1, 3)),
    "com.microsoft.DynamicQuantizeMatMul": ((1, 2, 3),),
}
#: Where operators with a weight have it, and their bias.
_WEIGHTED: Mapping[str, tuple[int, int]] = {
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (1, -1),
    "com.microsoft.FusedConv": (1, 2),
    "com.microsoft.FusedMatMul": (1, -1),
}
#: What may stand between an operator and the QuantizeLinear of its output in one integer kernel.
_FUSED_ACTIVATIONS = ("Relu", "Clip")


@dataclass(frozen=True, kw_only=True)
class Quantized:
    """One tensor of integers with a scale.

    Attributes:
        node: the node that says so.
        tensor: the integers' name; where QuantizeLinear makes them, the float tensor's.
        dtype: of the integers; None where it is not known.
        scale, zero_point: names; empty where the node has none.
    """

    node: Node
    role: Role
    tensor: str
    dtype: str | None
    scale: str
    zero_point: str


def quantized(graph: GraphView) -> Iterator[Quantized]:
    """Every tensor that the graph says is quantized, once for each node that says so."""
    for node in graph.all_nodes:
        if node.operator in PAIR:
            yield _of_pair(node, graph)
        for at, scale, zero_point in _INTEGER.get(node.operator, ()):
            tensor = node.outputs[0] if at == -1 else _input(node, at)
            yield Quantized(
                node=node,
                role="weight" if at > 0 and is_fixed(tensor, graph) else "activation",
                tensor=tensor,
                dtype=graph.dtype(tensor),
                scale=_input(node, scale),
                zero_point=_input(node, zero_point),
            )


def _of_pair(node: Node, graph: GraphView) -> Quantized:
    is_quantize = node.operator in QUANTIZE
    integers = node.outputs[0] if is_quantize else node.inputs[0]
    dtype, zero_point = graph.dtype(integers), _input(node, 2)
    if dtype is None and zero_point:
        dtype = graph.dtype(zero_point)
    role: Role = "weight" if is_fixed(node.inputs[0], graph) else "activation"
    if dtype == "int32" or _is_bias(node, graph):
        role = "bias"
    return Quantized(
        node=node,
        role=role,
        tensor=node.inputs[0],
        dtype=dtype,
        scale=_input(node, 1),
        zero_point=zero_point,
    )


def _is_bias(node: Node, graph: GraphView) -> bool:
    """Whether what a pair makes goes nowhere but to biases."""
    made = node.outputs[0]
    takers = graph.takers(made)
    if takers and all(t.operator in DEQUANTIZE for t in takers):
        return all(_is_bias(t, graph) for t in takers)
    places = [
        _WEIGHTED.get(t.operator, (-1, -1))[1] == i
        for t in takers
        for i, name in enumerate(t.inputs)
        if name == made
    ]
    return bool(places) and all(places)


def is_fixed(name: str, graph: GraphView) -> bool:
    """Whether a value is a constant, or a constant behind Q/DQ pairs."""
    maker = graph.maker(name)
    while maker is not None and maker.operator in PAIR:
        name = maker.inputs[0]
        maker = graph.maker(name)
    return graph.is_constant(name)


def dequantizes(name: str, graph: GraphView) -> bool:
    """Whether a value comes out of a DequantizeLinear of 8-bit integers."""
    maker = graph.maker(name)
    return (
        maker is not None
        and maker.operator in DEQUANTIZE
        and graph.dtype(maker.inputs[0]) in ("int8", "uint8")
    )


def quantizes(name: str, graph: GraphView, *, through: Collection[str] = ()) -> bool:
    """Whether a value goes to QuantizeLinear and nowhere else, if need be through an operator of `through` that nobody else takes from."""
    takers = graph.takers(name)
    if not takers or name in graph.outputs:
        return False
    if len(takers) == 1 and takers[0].operator in through:
        return quantizes(takers[0].outputs[0], graph)
    return all(t.operator in QUANTIZE for t in takers)


def in_pairs(node: Node, graph: GraphView) -> bool:
    """Whether a node stands between DequantizeLinear and QuantizeLinear: all it computes with comes from the one or is fixed, all it makes goes to the other."""
    if node.operator in PAIR or not node.outputs:
        return False
    data = [n for n in node.inputs if n and not graph.is_constant(n)]
    makers = [graph.maker(n) for n in data if graph.dtype(n) in (None, "float32", "float16")]
    return (
        any(dequantizes(n, graph) for n in data)
        and all(m is not None and m.operator in DEQUANTIZE for m in makers)
        and all(quantizes(n, graph) for n in node.outputs)
    )


def is_int8(node: Node, graph: GraphView, float_outputs: Collection[str]) -> bool:
    """Whether a node multiplies 8-bit integers: by its operator, or because Q/DQ pairs around it make an integer kernel of it.

    Both factors come from DequantizeLinear, and its output goes to QuantizeLinear (a Relu or Clip between), unless the operator is one
    of `float_outputs`.
    """
    if node.operator in _INTEGER:
        return True
    factors = [n for n in node.inputs[:2] if n]
    if len(factors) < 2 or not all(dequantizes(n, graph) for n in factors):
        return False
    return node.operator in float_outputs or quantizes(
        node.outputs[0], graph, through=_FUSED_ACTIVATIONS
    )


def _input(node: Node, index: int) -> str:
    return node.inputs[index] if 0 <= index < len(node.inputs) else ""
