"""Fused activations that tf2onnx 1.17 refuses → operators of their own."""

from __future__ import annotations

from typing import Any

from tensorflow.lite.python import schema_py_generated as schema

from edgepack.intake.tflite.flatbuffer import Graph, ints

_SEPARATE = {schema.ActivationFunctionType.RELU_N1_TO_1: "RELU_N1_TO_1"}


def separate_activations(graph: Graph) -> None:
    """Put each such activation behind its operator, between which and it a tensor of the same kind comes."""
    operators: list[Any] = []
    for op in graph.operators:
        operators.append(op)
        kind = getattr(op.builtinOptions, "fusedActivationFunction", 0)
        if kind not in _SEPARATE:
            continue
        op.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.NONE
        made = ints(op.outputs)[0]
        tensor = graph.tensors[made]
        between = graph.add_tensor("", ints(tensor.shape))
        graph.tensors[between].type = tensor.type
        graph.tensors[between].shapeSignature = tensor.shapeSignature
        graph.tensors[between].quantization = tensor.quantization
        op.outputs = [between]
        operators.append(graph.operator(_SEPARATE[kind], [between], [made]))
    graph.subgraph.operators = operators
