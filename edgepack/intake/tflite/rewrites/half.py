"""Weights stored in float16 → float32: TFLite widens them before it computes, and so does the ONNX file."""

from __future__ import annotations

import numpy as np

from edgepack.intake.tflite.flatbuffer import Graph, ints
from edgepack.intake.tflite.rewrites.densify import replace


def widen_half(graph: Graph) -> None:
    """Replace each DEQUANTIZE of a float16 constant by the float32 constant, which is exact."""
    wide: dict[int, int] = {}
    for op in [o for o in graph.operators if graph.name(o) == "DEQUANTIZE"]:
        source, made = ints(op.inputs)[0], ints(op.outputs)[0]
        value = graph.constant(source)
        if value is None or value.dtype != np.float16:
            continue
        if source in wide:
            replace(graph, made, wide[source])
        else:
            wide[source] = made
            graph.set_constant(made, value.astype(np.float32))
        graph.operators.remove(op)
