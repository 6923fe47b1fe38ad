"""Multiply-accumulates: how much of a model's arithmetic each node does.

Only what multiplies matrices counts (convolutions, products, recurrent layers, attention), as is usual in papers; a free dimension counts as 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping

from edgepack.artifact import Dim
from edgepack.legality.graph import GraphView, Node
from edgepack.legality.pairs import is_int8

#: (where the left and right factor stand among the inputs) of each operator that is a matrix product.
_PRODUCTS: Mapping[str, tuple[int, int]] = {
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "com.microsoft.FusedMatMul": (0, 1),
    "com.microsoft.FusedMatMulActivation": (0, 1),
    "com.microsoft.TransposeMatMul": (0, 1),
    "com.microsoft.MatMulIntegerToFloat": (0, 1),
    "com.microsoft.DynamicQuantizeMatMul": (0, 1),
    "com.microsoft.MatMulNBits": (0, 1),
    "com.microsoft.MatMulBnb4": (0, 1),
    "Gemm": (0, 1),
    "com.microsoft.FusedGemm": (0, 1),
    "com.microsoft.QGemm": (0, 3),
}
#: Where the weight stands among the inputs of each convolution.
_CONVOLUTIONS: Mapping[str, int] = {
    "Conv": 1,
    "ConvInteger": 1,
    "QLinearConv": 3,
    "com.microsoft.FusedConv": 1,
    "com.microsoft.NhwcConv": 1,
    "com.microsoft.NhwcFusedConv": 1,
    "com.microsoft.QLinearConv": 3,
    "com.microsoft.nchwc.Conv": 1,
    "com.ms.internal.nhwc.Conv": 1,
}
_TRANSPOSED = ("ConvTranspose", "com.microsoft.QLinearConvTranspose")
_RECURRENT = ("LSTM", "GRU", "RNN", "com.microsoft.DynamicQuantizeLSTM")
_PROJECTED_ATTENTION = ("com.microsoft.Attention", "com.microsoft.QAttention")
_ATTENTION = ("Attention", "com.microsoft.MultiHeadAttention", "com.microsoft.GroupQueryAttention")


def node_macs(node: Node, graph: GraphView) -> int | None:
    """Multiply-accumulates of one run of a node, those of its bodies (once) included; None where a shape that is needed is not known."""
    count = _counter(node.operator)
    own = 0 if count is None else count(node, graph)
    inner = [node_macs(n, graph) for n in graph.bodies(node)]
    if own is None or None in inner:
        return None
    return own + sum(n for n in inner if n is not None)


def total_macs(graph: GraphView) -> int:
    """Multiply-accumulates of one run of the model, as far as shapes are known."""
    return sum(node_macs(n, graph) or 0 for n in graph.nodes)


def uncounted(graph: GraphView) -> tuple[Node, ...]:
    """Nodes whose multiply-accumulates are not known."""
    return tuple(n for n in graph.nodes if node_macs(n, graph) is None)


def int8_mac_share(
    graph: GraphView, *, float_outputs: Collection[str] = ("MatMul", "Gemm")
) -> float:
    """The share of multiply-accumulates done in 8-bit integers, 0–1; 0 for a model without any.

    Args:
        float_outputs: operators that multiply integers though no QuantizeLinear follows them. onnxruntime's CPU kernels do so for
            MatMul and Gemm; TensorRT for whatever the recipe excluded from output quantization.
    """
    counted = [(n, node_macs(n, graph) or 0) for n in graph.all_nodes if not graph.bodies(n)]
    total = sum(macs for _, macs in counted)
    if not total:
        return 0.0
    return sum(m for n, m in counted if m and is_int8(n, graph, float_outputs)) / total


def _counter(operator: str) -> Callable[[Node, GraphView], int | None] | None:
    if operator in _CONVOLUTIONS:
        return _convolution
    if operator in _PRODUCTS:
        return _product
    if operator in _TRANSPOSED:
        return _transposed_convolution
    if operator in _RECURRENT:
        return _recurrent
    if operator in _PROJECTED_ATTENTION:
        return _projected_attention
    if operator in _ATTENTION:
        return _attention
    return _einsum if operator == "Einsum" else None


def _convolution(node: Node, graph: GraphView) -> int | None:
    """Each output element: the size of one filter. W is [M, C/group, *kernel]."""
    weight = _sizes(graph, node.inputs[_CONVOLUTIONS[node.operator]])
    out = _sizes(graph, node.outputs[0])
    return None if weight is None or out is None else math.prod(out) * math.prod(weight[1:])


def _transposed_convolution(node: Node, graph: GraphView) -> int | None:
    """Each input element: all the outputs it spreads to. W is [C, M/group, *kernel]."""
    at = 1 if node.operator == "ConvTranspose" else 3
    weight, x = _sizes(graph, node.inputs[at]), _sizes(graph, node.inputs[0])
    return None if weight is None or x is None else math.prod(x) * math.prod(weight[1:])


def _product(node: Node, graph: GraphView) -> int | None:
    """Each output element: the length of the axis that is summed over, the left factor's last (or last but one, transposed)."""
    left = _sizes(graph, node.inputs[_PRODUCTS[node.operator][0]])
    out = _sizes(graph, node.outputs[0])
    if left is None or out is None:
        return None
    transposed = node.attribute("transA", 0) and len(left) > 1
    return math.prod(out) * (left[-2] if transposed else left[-1])


def _recurrent(node: Node, graph: GraphView) -> int | None:
    """Each step of each sequence: both weight matrices. X is [time, batch, features], W and R are [directions, …]."""
    x, w, r = (_sizes(graph, name) for name in node.inputs[:3])
    if x is None or w is None or r is None:
        return None
    return x[0] * x[1] * (math.prod(w) + math.prod(r))


def _projected_attention(node: Node, graph: GraphView) -> int | None:
    """Input [batch, length, features] times weights [features, 3·hidden], then scores and their product with the values."""
    x, w = _sizes(graph, node.inputs[0]), _sizes(graph, node.inputs[1])
    if x is None or w is None or len(x) != 3:
        return None
    return math.prod(x) * w[-1] + 2 * x[0] * x[1] * x[1] * (w[-1] // 3)


def _attention(node: Node, graph: GraphView) -> int | None:
    """Scores and their product with the values: every query element meets every key's position, twice."""
    q, k = _sizes(graph, node.inputs[0]), _sizes(graph, node.inputs[1])
    if q is None or k is None or len(k) not in (3, 4):
        return None
    return 2 * math.prod(q) * k[-2]


def _einsum(node: Node, graph: GraphView) -> int | None:
    """The product of all labels' sizes, where there are two operands or more."""
    terms = str(node.attribute("equation", "")).replace(" ", "").split("->")[0].split(",")
    if len(terms) < 2:
        return 0
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.inputs, strict=False):
        shape = _sizes(graph, name)
        if shape is None or "." in term or len(term) != len(shape):
            return None
        sizes.update(zip(term, shape, strict=True))
    return math.prod(sizes.values())


def _sizes(graph: GraphView, name: str) -> tuple[int, ...] | None:
    """A shape with 1 for each free dimension; None where the rank is not known."""
    shape: tuple[Dim, ...] | None = graph.shape(name)
    return None if shape is None else tuple(1 if isinstance(d, str) else d for d in shape)
