"""Integer biases count in units of input scale × weight scale, whatever the bias tensor itself says."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from edgepack.intake.tflite.flatbuffer import DTYPES, Graph, ints

#: Operators with an integer bias: the places of input, weights and bias. Source: tensorflow/lite/kernels/*.cc.
_BIASED = {
    "CONV_2D": (0, 1, 2),
    "DEPTHWISE_CONV_2D": (0, 1, 2),
    "FULLY_CONNECTED": (0, 1, 2),
    "TRANSPOSE_CONV": (2, 1, 3),
    "CONV_3D": (0, 1, 2),
}


def scale_biases(graph: Graph) -> None:
    """Give each operator a bias of the scale that its kernel uses.

    TFLiteConverter 2.21 lets two operators with equal biases share one tensor, with the scale of the first. The kernels do not look
    at it. Source: https://ai.google.dev/edge/litert/models/quantization_spec, "bias: scale = input0_scale * input1_scale".
    """
    for op in graph.operators:
        places, inputs = _BIASED.get(graph.name(op)), ints(op.inputs)
        if places is None or places[2] >= len(inputs) or inputs[places[2]] == -1:
            continue
        data, weights, bias = (inputs[p] for p in places)
        scales = [_scale(graph, i) for i in (data, weights, bias)]
        if DTYPES.get(graph.tensors[bias].type) not in ("int32", "int64") or any(
            s is None for s in scales
        ):
            continue
        meant = np.asarray(scales[0] * scales[1], np.float32)
        if len(meant) == len(scales[2]) and np.allclose(meant, scales[2], rtol=1e-4, atol=0):
            continue
        own = copy.copy(graph.tensors[bias])
        own.quantization = copy.copy(own.quantization)
        own.quantization.scale = meant
        own.quantization.zeroPoint = np.zeros(len(meant), np.int64)
        own.quantization.quantizedDimension = 0
        graph.tensors.append(own)
        inputs[places[2]] = len(graph.tensors) - 1
        op.inputs = inputs


def _scale(graph: Graph, index: int) -> Any:
    quantization = graph.tensors[index].quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return None
    return np.asarray(quantization.scale, np.float64)
