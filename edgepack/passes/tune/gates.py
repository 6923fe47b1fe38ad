"""A factor for each channel (squeeze and excite), for several columns at once."""

from __future__ import annotations

import math

import onnx

from edgepack.passes.tune.chain import Chain
from edgepack.passes.tune.graph import Graph

#: Numbers in a row that a product with another row should have, and numbers below which the repeated gate costs what it saves.
_LONG, _MANY = 256, 2**17


def widen_gates(graph: Graph) -> int:
    """x [N, C, H, W] · g [N, C, 1, 1] → rows of m columns' channels, in NHWC, by g as many times side by side.

    onnxruntime multiplies row by row, where in NHWC one place's channels are a row: of 32, more time goes to beginning than to multiplying.
    For INT8 on x86, whose convolutions are in NHWC: half of the product's time with 32 channels.

    Source: onnxruntime, contrib_ops/cpu/quantization/quant_ops (QLinearMul broadcasts through spans); measured.
    """
    done = 0
    for node in graph.nodes("Mul"):
        x, gate = _gated(graph, node)
        shape = graph.shape(x)
        if not x or shape is None or math.prod(shape) < _MANY:
            continue
        columns = 1
        while shape[3] % (columns * 2) == 0 and columns * 2 * shape[1] <= _LONG:
            columns *= 2
        if columns > 1 and shape[2] > 1:
            graph.replace([node], _widened(graph, node, x, gate, columns))
            done += 1
    return done


def _gated(graph: Graph, node: onnx.NodeProto) -> tuple[str, str]:
    """What is multiplied by what, if it is a gate."""
    for x, gate in (tuple(node.input), tuple(reversed(node.input))):
        shape, factors = graph.shape(x), graph.shape(gate)
        if shape is None or factors is None or len(shape) != 4 or not graph.is_float(x):
            continue
        constant = graph.value(x) is not None or graph.value(gate) is not None
        if factors == (*shape[:2], 1, 1) and not constant:
            return x, gate
    return "", ""


def _widened(
    graph: Graph, node: onnx.NodeProto, x: str, gate: str, columns: int
) -> list[onnx.NodeProto]:
    shape, y = graph.shape(x), node.output[0]
    assert shape is not None
    batch, channels, height, width = shape
    nodes = Chain(graph, y)
    rows = nodes.add("Transpose", "nhwc", [x], perm=[0, 2, 3, 1])
    rows = nodes.shaped(rows, "rows", batch, height, width // columns, columns * channels)
    factors = nodes.add("Transpose", "factors", [gate], perm=[0, 2, 3, 1])
    factors = nodes.add("Concat", "repeated", [factors] * columns, axis=3)
    rows = nodes.add("Mul", "product", [rows, factors])
    rows = nodes.shaped(rows, "single", batch, height, width, channels)
    return nodes.end(nodes.add("Transpose", "nchw", [rows], perm=[0, 3, 1, 2]))
