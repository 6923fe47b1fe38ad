"""A mean over all that a convolution makes, as the matrix product that both are."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, attribute, dense_conv

#: How many times as large as the kernel the matrix may be.
_MOST_GROWTH = 2


def multiply_averages(graph: Graph) -> int:
    """GlobalAveragePool(Conv(x)), of images little larger than the kernel → Gemm (without a bias, MatMul) of all that is in x.

    Nothing lies between the two, so each output is one sum over x: of 4 × 4 places and a 3×3 kernel, a ninth of the products.
    """
    done = 0
    for pool in graph.nodes("GlobalAveragePool"):
        conv = graph.maker(pool.input[0], "Conv")
        alone = conv is not None and graph.only_taker(conv.output[0]) is pool
        matrix = _matrix(graph, conv) if conv is not None and alone else None
        if conv is not None and matrix is not None:
            _replace(graph, conv, pool, matrix)
            done += 1
    return done


def _matrix(graph: Graph, conv: onnx.NodeProto) -> Array | None:
    """[inputs · height · width, outputs]: what each place adds to each mean."""
    dense = dense_conv(graph, conv)
    if dense is None:
        return None
    x, y, kernel = dense
    tall, wide = kernel.shape[2:]
    if x[2] * x[3] > _MOST_GROWTH * tall * wide:
        return None
    top, left, bottom, right = attribute(conv, "pads", [0] * 4)
    down, across = attribute(conv, "strides", [1, 1])
    sums = np.zeros((x[1], x[2] + top + bottom, x[3] + left + right, len(kernel)))
    for row in range(y[2]):
        for column in range(y[3]):
            i, j = row * down, column * across
            sums[:, i : i + tall, j : j + wide] += kernel.transpose(1, 2, 3, 0)
    inside = sums[:, top : top + x[2], left : left + x[3]] / (y[2] * y[3])
    return inside.reshape(-1, len(kernel)).astype(np.float32)


def _replace(graph: Graph, conv: onnx.NodeProto, pool: onnx.NodeProto, matrix: Array) -> None:
    y = pool.output[0]
    shape = graph.shape(conv.output[0])
    assert shape is not None
    flat, mean = graph.fresh(f"{y}/flat"), graph.fresh(f"{y}/mean")
    bias = [name for name in conv.input[2:] if name]
    weight = graph.constant(matrix, f"{y}/matrix")
    sizes = graph.constant(np.array([*shape[:2], 1, 1], np.int64), f"{y}/sizes")
    nodes = [
        graph.node("Flatten", [conv.input[0]], flat, axis=1),
        # Before operator set 11, Gemm has a bias always.
        graph.node("Gemm" if bias else "MatMul", [flat, weight, *bias], mean),
        graph.node("Reshape", [mean, sizes], y),
    ]
    graph.replace([conv, pool], nodes)
