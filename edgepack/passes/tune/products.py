"""A pointwise convolution of few places, as the matrix product that it is."""

from __future__ import annotations

import math

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, attribute

#: Places that a kernel computes at once; what is left over of them is slow, and of few places it is much.
_STEP, _FEW = 4, 64


def multiply_pointwise(graph: Graph) -> int:
    """Conv1×1 of x [N, C, H, W] → MatMul between two transpositions, where H·W is below 64 and 4 does not divide it.

    As onnxruntime computes such a Conv, places are columns: 7 × 7 leave one over, 1 × 1 are nothing else, and the kernel is read anew each
    time. In the MatMul channels are columns, and the kernel lies ready in its layout. For wasm: 0.7 to 0.8 of the time with 7 × 7 places,
    0.15 with one.

    Source: onnxruntime, core/mlas/lib/convolve.cpp and sgemm.cpp; measured.
    """
    done = 0
    for conv in graph.nodes("Conv"):
        kernel, shape = graph.floats(conv.input[1]), graph.shape(conv.output[0])
        bias = graph.floats(conv.input[2]) if len(conv.input) > 2 and conv.input[2] else None
        if kernel is None or shape is None or not _is_pointwise(conv, kernel):
            continue
        places = math.prod(shape[2:])
        known = len(conv.input) < 3 or not conv.input[2] or bias is not None
        if known and places < _FEW and places % _STEP:
            graph.replace([conv], _product(graph, conv, kernel, bias))
            done += 1
    return done


def _is_pointwise(conv: onnx.NodeProto, kernel: Array) -> bool:
    plain = all(
        set(attribute(conv, name, [value])) == {value}
        for name, value in (("strides", 1), ("pads", 0))
    )
    return (
        plain
        and kernel.ndim == 4
        and kernel.shape[2:] == (1, 1)
        and attribute(conv, "group", 1) == 1
    )


def _product(
    graph: Graph, conv: onnx.NodeProto, kernel: Array, bias: Array | None
) -> list[onnx.NodeProto]:
    y = conv.output[0]
    moved, made = graph.fresh(f"{y}/nhwc"), graph.fresh(f"{y}/product")
    weight = graph.constant(np.ascontiguousarray(kernel[:, :, 0, 0].T), f"{y}/weight")
    nodes = [
        graph.node("Transpose", [conv.input[0]], moved, perm=[0, 2, 3, 1]),
        graph.node("MatMul", [moved, weight], made),
    ]
    if bias is not None:
        shifted = graph.fresh(f"{y}/shifted")
        nodes.append(graph.node("Add", [made, graph.constant(bias, f"{y}/bias")], shifted))
        made = shifted
    nodes.append(graph.node("Transpose", [made], y, perm=[0, 3, 1, 2]))
    return nodes
