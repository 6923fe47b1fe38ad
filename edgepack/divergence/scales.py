"""The scale and zero point with which an integer tensor stands for a float one.

Source: onnx, docs/Operators.md (QuantizeLinear, DequantizeLinear, QLinearConv, QLinearMatMul); onnxruntime,
docs/ContribOperators.md (com.microsoft: QLinearAdd … QGemm), for the places of scales among the inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Names of the tensors that hold the scale and the zero point; an empty zero point is 0."""

    scale: str
    zero_point: str


#: operator → (data input, its scale) for each quantized input, and the scale of the output. A zero point follows its scale.
_UNARY = (((0, 1),), 3)
_BINARY = (((0, 1), (3, 4)), 6)
_PLACES: Mapping[str, tuple[Sequence[tuple[int, int]], int]] = {
    "QLinearConv": _BINARY,
    "QLinearMatMul": _BINARY,
    "QLinearAdd": _BINARY,
    "QLinearMul": _BINARY,
    "QGemm": (((0, 1), (3, 4)), 7),
    "QLinearSigmoid": _UNARY,
    "QLinearLeakyRelu": _UNARY,
    "QLinearSoftmax": _UNARY,
    "QLinearAveragePool": _UNARY,
    "QLinearGlobalAveragePool": _UNARY,
    "QLinearReduceMean": _UNARY,
    "QLinearWhere": (((1, 2), (4, 5)), 7),
}
#: Operators whose output holds values of their first input, so that its scale holds for both.
_MOVERS = frozenset(
    (
        *("MaxPool", "NhwcMaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze"),
        *("Slice", "Gather", "Split", "Identity", "Pad", "Expand", "Tile", "DepthToSpace"),
        *("SpaceToDepth", "Resize", "Upsample"),
    )
)


def scales(nodes: Sequence[onnx.NodeProto]) -> dict[str, Scale]:
    """The scale of every integer tensor whose scale the graph says, by the tensor's name; `nodes` in topological order."""
    found: dict[str, Scale] = {}
    for node in nodes:
        if node.op_type == "DequantizeLinear":
            found.setdefault(node.input[0], _at(node, 1))
        elif node.op_type == "QuantizeLinear":
            found.setdefault(node.output[0], _at(node, 1))
        elif node.op_type == "DynamicQuantizeLinear":
            scale = Scale(scale=node.output[1], zero_point=node.output[2])
            found.setdefault(node.output[0], scale)
        elif node.op_type == "QLinearConcat":
            found.setdefault(node.output[0], _at(node, 0))
            for i in range(2, len(node.input) - 1, 3):
                found.setdefault(node.input[i], _at(node, i + 1))
        elif node.op_type in _PLACES:
            inputs, output = _PLACES[node.op_type]
            if len(node.input) > output:  # QGemm without: its output is float
                found.setdefault(node.output[0], _at(node, output))
            for data, place in inputs:
                found.setdefault(node.input[data], _at(node, place))
    for node in nodes:
        if node.op_type in _MOVERS and node.input[0] in found:
            for name in node.output:
                found.setdefault(name, found[node.input[0]])
    return found


def _at(node: onnx.NodeProto, place: int) -> Scale:
    point = node.input[place + 1] if len(node.input) > place + 1 else ""
    return Scale(scale=node.input[place], zero_point=point)
