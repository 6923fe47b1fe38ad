"""Names, quantization parameters and packed integers as tf2onnx expects them."""

from __future__ import annotations

import numpy as np
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.intake.tflite.flatbuffer import Graph, ints, text

_INTEGERS = (
    schema.TensorType.INT8,
    schema.TensorType.UINT8,
    schema.TensorType.INT16,
    schema.TensorType.INT32,
    schema.TensorType.INT64,
)


def prune(graph: Graph) -> None:
    """Drop operators no output needs, so that they need no translation either."""
    needed = set(ints(graph.subgraph.outputs))
    kept = []
    for op in reversed(graph.operators):
        # What gives nothing out is there for its effect (CALL_ONCE, ASSIGN_VARIABLE).
        if not ints(op.outputs) or needed & set(ints(op.outputs)):
            needed |= set(ints(op.inputs))
            kept.append(op)
    graph.subgraph.operators = kept[::-1]


def name_tensors(graph: Graph, number: int) -> dict[str, str]:
    """Give every tensor a name of its own; what each was called before, by its new name.

    tf2onnx 1.17 tells tensors apart by their names, which a file may repeat or leave out, and makes others by adding to them.
    """
    before = {}
    for i, tensor in enumerate(graph.tensors):
        name = f"s{number}/t{i}"
        before[name] = text(tensor.name) or f"tensor {i}"
        tensor.name = name.encode()
    graph.subgraph.name = f"s{number}".encode()
    return before


def complete_quantization(graph: Graph) -> None:
    """Give every scale its zero point, and take quantization from tensors that hold no integers.

    tf2onnx 1.17 takes a tensor without zero points for one that is not quantized, and any with both for one that is.
    """
    for tensor in graph.tensors:
        quantization = tensor.quantization
        if quantization is None:
            continue
        scales = 0 if quantization.scale is None else len(quantization.scale)
        if not scales or tensor.type not in _INTEGERS:
            tensor.quantization = None
        elif quantization.zeroPoint is None or len(quantization.zeroPoint) < scales:
            zero = (
                0
                if quantization.zeroPoint is None or not len(quantization.zeroPoint)
                else int(quantization.zeroPoint[0])
            )
            quantization.zeroPoint = np.full(scales, zero, np.int64)


def unpack_int4(graph: Graph) -> None:
    """Store 4-bit constants as int8: two to a byte, the low half first. Source: tensorflow/lite/kernels/internal/portable_tensor_utils.h."""
    for index, tensor in enumerate(graph.tensors):
        data = graph.model.buffers[tensor.buffer].data
        if tensor.type != schema.TensorType.INT4 or data is None or not len(data):
            continue
        packed = np.asarray(data, np.uint8).view(np.int8)
        halves = np.stack([np.left_shift(packed, 4) >> 4, packed >> 4], -1).reshape(-1)
        shape = ints(tensor.shape)
        quantization = tensor.quantization
        graph.set_constant(index, halves[: int(np.prod(shape))].reshape(shape))
        tensor.quantization = quantization
