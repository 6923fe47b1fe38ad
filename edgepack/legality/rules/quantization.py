"""How the integers of a quantized graph must be: types, zero points, biases, scales per channel, what stays in float."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView, Node
from edgepack.legality.pairs import PAIR, QUANTIZE, Quantized, quantized
from edgepack.legality.rules.rule import Rule

_VIEWS = ("Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity")
_REQUANTIZE = "quantize the float model with this target's own recipe: edgepack build --precision int8 --calibration DATA"


@dataclass(frozen=True, kw_only=True)
class IntegerTypes(Rule):
    """Integers of other types than the device multiplies.

    Attributes:
        activations, weights: the types that are legal, by numpy's names.
    """

    name: ClassVar[str] = "integer_types"

    activations: tuple[str, ...] = ("int8", "uint8")
    weights: tuple[str, ...] = ("int8", "uint8")

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for q in quantized(graph):
            legal = {"activation": self.activations, "weight": self.weights}.get(q.role)
            if legal is None or q.dtype is None or q.dtype in legal:
                continue
            yield self.found(
                f"the {q.role} {q.tensor} is {q.dtype}; the device takes {' or '.join(legal)}",
                _REQUANTIZE,
                node=q.node,
                tensor=q.tensor,
                value=q.dtype,
            )


@dataclass(frozen=True, kw_only=True)
class ZeroPoints(Rule):
    """Zero points that are not 0, or not known before the model runs.

    Attributes:
        activations, weights: whether theirs must be 0.
    """

    name: ClassVar[str] = "zero_points"

    activations: bool = True
    weights: bool = True

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for q in quantized(graph):
            asked = self.weights if q.role == "weight" else self.activations
            if not asked or not q.zero_point:
                continue
            values = graph.constant(q.zero_point)
            if values is not None and not np.any(values):
                continue
            if values is None:
                said, value = "is computed while the model runs", "not a constant"
            else:
                value = str(values.reshape(-1)[np.flatnonzero(values)[0]])
                said = f"is {value}"
            yield self.found(
                f"the zero point {q.zero_point} of the {q.role} {q.tensor} {said}; the device takes 0 alone",
                _REQUANTIZE,
                node=q.node,
                tensor=q.zero_point,
                value=value,
            )


@dataclass(frozen=True, kw_only=True)
class FloatBias(Rule):
    """Biases stored as integers with a DequantizeLinear of their own."""

    name: ClassVar[str] = "float_bias"

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for q in quantized(graph):
            if q.role == "bias" and q.node.operator in PAIR:
                yield self.found(
                    f"the bias {q.tensor} is {q.dtype or 'quantized'} behind {q.node.operator}; the device takes float biases alone",
                    _REQUANTIZE,
                    node=q.node,
                    tensor=q.tensor,
                    value=q.dtype or "",
                )


@dataclass(frozen=True, kw_only=True)
class PerChannelWeights(Rule):
    """Weights with one scale for all channels where the device has one for each.

    Attributes:
        operators: those whose weights are looked at.
    """

    name: ClassVar[str] = "per_channel_weights"

    operators: tuple[str, ...] = ("Conv", "ConvTranspose", "Gemm", "MatMul")

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for q in quantized(graph):
            if q.role != "weight" or q.node.operator in QUANTIZE or not self._is_single(q, graph):
                continue
            product = next(self._products(q.node, graph), None)
            if product is not None:
                yield self.found(
                    f"the weight {q.tensor} of {product.operator} {product.name} has one scale for all its channels",
                    _REQUANTIZE,
                    node=q.node,
                    tensor=q.scale,
                    value="1 scale",
                )

    def _products(self, node: Node, graph: GraphView) -> Iterator[Node]:
        """What takes a weight, if need be as another view of it (TransB written out)."""
        for taker in (t for n in node.outputs for t in graph.takers(n)):
            if taker.operator in self.operators:
                yield taker
            elif taker.operator in _VIEWS:
                yield from self._products(taker, graph)

    @staticmethod
    def _is_single(q: Quantized, graph: GraphView) -> bool:
        scale, weight = graph.shape(q.scale), graph.shape(q.tensor)
        if scale is None or weight is None or math.prod(d for d in scale if isinstance(d, int)) > 1:
            return False
        # One channel needs no second scale.
        return sum(isinstance(d, int) and d > 1 for d in weight) > 1


@dataclass(frozen=True, kw_only=True)
class FloatOperators(Rule):
    """Operators whose results are quantized though they should stay in float.

    Attributes:
        operators: their types.
    """

    name: ClassVar[str] = "float_operators"

    operators: tuple[str, ...] = ("Softmax",)

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for node in graph.all_nodes:
            plain = node.proto.op_type.removeprefix("QLinear")
            takers = [t for name in node.outputs for t in graph.takers(name)]
            pairs = [t for t in takers if t.operator in QUANTIZE]
            fused = plain != node.proto.op_type
            if plain not in self.operators or not (fused or pairs):
                continue
            where = "in one operator" if fused else f"by {pairs[0].name}"
            yield self.found(
                f"its result {node.outputs[0]} is quantized {where}",
                f"leave {plain} in float when the model is quantized (the recipe's float_operators)",
                node=node,
                tensor=node.outputs[0],
                value="8-bit" if fused else f"scale {_scale(pairs[0].inputs[1], graph)}",
            )


@dataclass(frozen=True, kw_only=True)
class Int8Share(Rule):
    """Too little of the arithmetic in integers for INT8 to be worth its loss.

    Attributes:
        minimum: the least share of multiply-accumulates, 0–1.
        float_outputs: see `edgepack.legality.macs.int8_mac_share`.
    """

    name: ClassVar[str] = "int8_share"

    severity: Literal["error", "warning"] = "warning"
    precisions: tuple[str, ...] = ("int8",)
    minimum: float = 0.9
    float_outputs: tuple[str, ...] = ("MatMul", "Gemm")

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        from edgepack.legality.macs import int8_mac_share, node_macs, total_macs
        from edgepack.legality.pairs import is_int8

        total = total_macs(graph)
        share = int8_mac_share(graph, float_outputs=self.float_outputs)
        if not total or share >= self.minimum or not any(True for _ in quantized(graph)):
            return
        left = [n for n in graph.all_nodes if not is_int8(n, graph, self.float_outputs)]
        heaviest = max(left, key=lambda n: 0 if graph.bodies(n) else node_macs(n, graph) or 0)
        part = (node_macs(heaviest, graph) or 0) / total
        yield self.found(
            f"{share:.0%} of the multiply-accumulates are in INT8, less than {self.minimum:.0%}; the heaviest in float, with {part:.0%}, is this one",
            "see why it is not quantized (a weight that is no constant, an operator the quantizer leaves out), or use fp16",
            node=heaviest,
            value=f"{share:.3f}",
        )


def _scale(name: str, graph: GraphView) -> str:
    values = graph.constant(name)
    return "unknown" if values is None else f"{float(values.reshape(-1)[0]):.3g}"
