"""Dynamic-range weights → float32: what hybrid kernels approximate with integers is computed as it is meant."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepack.intake.tflite.flatbuffer import DTYPES, Graph, ints, text

#: Operators with kernels for float activations and integer weights, and the inputs that may be such weights.
#: Source: tensorflow/lite/kernels: conv.cc, depthwise_conv.cc, fully_connected.cc, batch_matmul.cc, svdf.cc,
#: basic_rnn.cc, unidirectional_sequence_*.cc, embedding_lookup.cc.
_HYBRID = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "FULLY_CONNECTED": (1,),
    "BATCH_MATMUL": (0, 1),
    "EMBEDDING_LOOKUP": (1,),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (*range(1, 12), 16),
    "LSTM": (*range(1, 12), 16),
    "BIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 35)),
    "BIDIRECTIONAL_SEQUENCE_RNN": tuple(range(1, 12)),
}


def widen_hybrid(graph: Graph) -> int:
    """Give operators with float activations float weights; the number of operators whose kernels round activations."""
    count = 0
    wide: dict[int, int] = {}
    for op in graph.operators:
        name, inputs = graph.name(op), ints(op.inputs)
        if name not in _HYBRID or _dtype(graph, ints(op.outputs)[0]) != "float32":
            continue
        changed = list(inputs)
        for place in _HYBRID[name]:
            index = inputs[place] if place < len(inputs) else -1
            if index == -1 or _dtype(graph, index) not in ("int8", "uint8"):
                continue
            if index not in wide and (value := dequantized(graph, index)) is not None:
                tensor = graph.tensors[index]
                wide[index] = graph.add_constant(f"{text(tensor.name)}/float", value)
            changed[place] = wide.get(index, index)
        if changed != inputs:
            op.inputs = changed
            if name == "FULLY_CONNECTED":
                op.builtinOptions.asymmetricQuantizeInputs = False
            count += name != "EMBEDDING_LOOKUP"  # which only scales, and rounds nothing
    return count


def dequantized(graph: Graph, index: int) -> NDArray[np.float32] | None:
    """The real values of a quantized constant; None for what is no constant or has no scales.

    Source: https://ai.google.dev/edge/litert/models/quantization_spec: real = (int − zero point) × scale.
    """
    value, quantization = graph.constant(index), graph.tensors[index].quantization
    if value is None or quantization is None or quantization.scale is None:
        return None
    scale = np.asarray(quantization.scale, np.float32)
    zero = np.zeros(1) if quantization.zeroPoint is None else np.asarray(quantization.zeroPoint)
    if len(scale) > 1:
        along = [1] * value.ndim
        along[int(quantization.quantizedDimension)] = -1
        scale = scale.reshape(along)
        zero = zero.reshape(along) if len(zero) > 1 else zero
    return np.asarray((value.astype(np.float32) - zero.astype(np.float32)) * scale, np.float32)


def _dtype(graph: Graph, index: int) -> str:
    return DTYPES.get(graph.tensors[index].type, "")
