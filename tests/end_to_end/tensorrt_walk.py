"""A second look at what TensorRT's explicit quantization asks of a graph: plain onnx and numpy, nothing of edgepack's rules.

Sources: onnx-tensorrt 10.1-GA, docs/operators.md (QuantizeLinear, DequantizeLinear: zero point 0, INT8); NVIDIA TensorRT 10
documentation, "Working with Quantized Types" (weights per channel); onnxruntime#14229 (no int32 DequantizeLinear).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

#: Operator: its weight's axis of output channels; MatMul's is its last, Gemm's depends on transB.
_CHANNELS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1}
_INTEGER_OPERATORS = ("ConvInteger", "MatMulInteger", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear")  # fmt: skip


def faults(proto: onnx.ModelProto) -> list[str]:
    """What is wrong, one line each; a model without any quantized weight is wrong, too."""
    weights: list[str] = []
    found = list(_graph_faults(proto.graph, {}, weights))
    if not weights:
        found.append("no weight is quantized")
    return found


def _graph_faults(
    graph: onnx.GraphProto, outer: dict[str, NDArray], weights: list[str]
) -> Iterator[str]:
    constants = outer | {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graph_faults(attribute.g, constants, weights)
        if node.op_type in _INTEGER_OPERATORS:
            yield f"{node.name} is a {node.op_type}"
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            yield from _pair_faults(node, constants, makers)
        if node.op_type in _CHANNELS:
            yield from _weight_faults(node, constants, makers, weights)


def _pair_faults(
    node: onnx.NodeProto, constants: dict[str, NDArray], makers: dict[str, onnx.NodeProto]
) -> Iterator[str]:
    scale = constants.get(node.input[1])
    if scale is None or not (np.isfinite(scale).all() and (scale > 0).all()):
        yield f"{node.name}: the scale is no positive constant"
    point = constants.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if point is None:
        # Without one, QuantizeLinear makes uint8.
        yield f"{node.name}: no constant zero point"
    elif point.dtype != np.int8 or point.any():
        yield f"{node.name}: a zero point of {point.dtype} {point.reshape(-1)[:3]}"
    if node.op_type == "QuantizeLinear":
        return
    given = node.input[0]
    if given in constants:
        if constants[given].dtype != np.int8:
            yield f"{node.name} reads {constants[given].dtype}"
    elif given not in makers or makers[given].op_type != "QuantizeLinear":
        yield f"{node.name} reads what no QuantizeLinear made"


def _weight_faults(
    node: onnx.NodeProto,
    constants: dict[str, NDArray],
    makers: dict[str, onnx.NodeProto],
    weights: list[str],
) -> Iterator[str]:
    if len(node.input) > 2 and node.input[2] in makers:
        yield f"{node.name}: its bias comes out of {makers[node.input[2]].op_type}"
    last = makers.get(node.input[1])
    if last is None or last.op_type != "DequantizeLinear":
        return
    source, scale = last.input[0], constants[last.input[1]]
    if source in makers:
        source = makers[source].input[0]
    if source not in constants:
        return  # two activations are multiplied
    weight = constants[source]
    weights.append(source)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in (*node.attribute,)}
    axis = 0 if attributes.get("transB") else _CHANNELS[node.op_type]
    quantized = {a.name: a.i for a in last.attribute}.get("axis", 1)
    if scale.size != weight.shape[axis]:
        yield f"{node.name}: {scale.size} scales for {weight.shape[axis]} channels"
    elif scale.size > 1 and quantized % weight.ndim != axis % weight.ndim:
        yield f"{node.name}: scales lie on axis {quantized}"


def int32_initializers(proto: onnx.ModelProto) -> list[str]:
    """Names; only shapes and indices may be such, and those are int64."""
    return [i.name for i in proto.graph.initializer if i.data_type == TensorProto.INT32]
