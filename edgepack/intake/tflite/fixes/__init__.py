"""Corrections of tf2onnx's TFLite operators on its own graph, before it translates them; one small function each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from edgepack.intake.tensorflow.handlers.segments import scatter_nd
from edgepack.intake.tflite.fixes.activations import clip, gelu
from edgepack.intake.tflite.fixes.arguments import scalar_axis
from edgepack.intake.tflite.fixes.int16 import dequantize_wide, quantize_wide, widen_weights
from edgepack.intake.tflite.fixes.integers import ON_INTEGERS, long_indices, on_integers
from edgepack.intake.tflite.fixes.loops import single_producers
from edgepack.intake.tflite.fixes.softmax import scale_logits

#: TFLite operator, as tf2onnx spells it, and what puts its node right in place; in this order.
FIXES: Sequence[tuple[str, Callable[[Any, Any], None]]] = (
    *((f"TFL_{kind}", on_integers) for kind in ON_INTEGERS),
    ("TFL_SPARSE_TO_DENSE", long_indices),
    ("TFL_DEQUANTIZE", widen_weights),
    ("TFL_QUANTIZE", quantize_wide),
    ("TFL_DEQUANTIZE", dequantize_wide),
    ("TFL_ARG_MAX", scalar_axis),
    ("TFL_ARG_MIN", scalar_axis),
    ("TFL_SOFTMAX", scale_logits),
    ("TFL_WHILE", single_producers),
)

#: Handlers, in tf2onnx's form, of operators that it has none for, or a wrong one.
HANDLERS: Mapping[str, tuple[Any, list[Any]]] = {
    "ScatterNd": (scatter_nd, []),
    "TFL_GELU": (gelu, []),
    "TFL_RELU_N1_TO_1": (clip(-1.0, 1.0), []),
    "TFL_RELU_0_TO_1": (clip(0.0, 1.0), []),
}
