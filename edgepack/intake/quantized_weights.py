"""Quantized weights that each have one reader, as onnxruntime's conversion to unsigned weights needs them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
from onnx import numpy_helper

from edgepack.topology import subgraphs

#: onnxruntime leaves int8 weights alone whose values all lie in −64 … 64.
_SEVEN_BITS = 64


def separate_quantized_weights(graph: onnx.GraphProto) -> None:
    """Give each reader of an int8 weight its own DequantizeLinear, weight and zero point, here and in subgraphs.

    With session.x64quantprecision onnxruntime 1.32 makes such weights uint8: it first gives each reader a
    DequantizeLinear of its own, then adds `<weight>_s8_2_u8` and `<zero point>_s8_2_u8` for each of these, and refuses the graph
    with "AddInitializedOrtValue Attempt to replace the existing tensor" when a name comes twice. tf2onnx makes equal constants one,
    zero points above all. Weights that need no conversion stay shared. Can go when onnxruntime makes these names unique.

    Source: onnxruntime, core/optimizer/qdq_transformer/s8_to_u8.cc (ConvertS8WeightToU8) and s8_to_u8.h (Int8TensorProto2Uint8).
    """
    constants = {i.name: i for i in graph.initializer}
    copies: Counter[str] = Counter()
    outputs = {v.name for v in graph.output}
    nodes: list[onnx.NodeProto] = []
    made: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for inner in subgraphs(node):
            separate_quantized_weights(inner)
        if node.op_type == "DequantizeLinear" and _converted(constants.get(node.input[0])):
            made[node.output[0]] = node
            _own_constants(graph, node, constants, copies)
        for place, name in enumerate(node.input):
            if name not in made:
                continue
            if copies[name] or name in outputs:
                clone = _clone(made[name], copies[name])
                _own_constants(graph, clone, constants, copies)
                node.input[place] = clone.output[0]
                nodes.append(clone)
            copies[name] += 1
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _converted(weight: onnx.TensorProto | None) -> bool:
    if weight is None or weight.data_type != onnx.TensorProto.INT8:
        return False
    values = numpy_helper.to_array(weight).astype(np.int16)
    return bool(np.abs(values).max(initial=0) > _SEVEN_BITS)


def _clone(node: onnx.NodeProto, number: int) -> onnx.NodeProto:
    clone = onnx.NodeProto()
    clone.CopyFrom(node)
    clone.name, clone.output[0] = f"{node.name}/{number}", f"{node.output[0]}/{number}"
    return clone


def _own_constants(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    constants: dict[str, onnx.TensorProto],
    copies: Counter[str],
) -> None:
    """Let a DequantizeLinear read a weight and a zero point that no DequantizeLinear before it reads."""
    for place in (0, 2):
        if place >= len(node.input) or node.input[place] not in constants:
            continue
        name = node.input[place]
        if copies[name]:
            own = graph.initializer.add()
            own.CopyFrom(constants[name])
            own.name = f"{name}/{copies[name]}"
            node.input[place] = own.name
        copies[name] += 1
