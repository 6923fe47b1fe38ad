"""A matrix product and its bias as one operator, where a Reshape stands between the two."""

from __future__ import annotations

import onnx

from edgepack.passes.tune.graph import Graph


def join_bias(graph: Graph) -> int:
    """Add(Reshape(MatMul(x, W)), b) → Reshape(Gemm(x, W, b)), where b runs along the last axis.

    TensorFlow multiplies values of more than two dimensions so. onnxruntime joins only what stands side by side.
    """
    done = 0
    for add in graph.nodes("Add"):
        for x, bias in (tuple(add.input), tuple(reversed(add.input))):
            product = _product(graph, add, x, bias)
            if product is None:
                continue
            reshape = graph.maker(x, "Reshape")
            assert reshape is not None
            y = add.output[0]
            flat = graph.fresh(f"{y}/flat")
            gemm = graph.node("Gemm", [*product.input, bias], flat)
            last = graph.node("Reshape", [flat, reshape.input[1]], y)
            graph.replace([product, reshape, add], [gemm, last])
            done += 1
            break
    return done


def _product(graph: Graph, add: onnx.NodeProto, x: str, bias: str) -> onnx.NodeProto | None:
    """The MatMul of two matrices that only `add` sees, through a Reshape, if the bias can go before the Reshape."""
    reshape, values = graph.maker(x, "Reshape"), graph.floats(bias)
    if reshape is None or values is None or graph.only_taker(x) is not add:
        return None
    product = graph.maker(reshape.input[0], "MatMul")
    before, after = graph.shape(reshape.input[0]), graph.shape(x)
    if product is None or graph.only_taker(product.output[0]) is not reshape:
        return None
    if before is None or after is None or len(before) != 2 or not after:
        return None
    # A vector times a matrix gives no two dimensions, but Gemm wants both.
    plain = all(len(graph.shape(name) or ()) == 2 for name in product.input)
    fits = after[-1] == before[-1] and values.shape == before[-1:]
    return product if plain and fits else None
