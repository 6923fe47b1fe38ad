"""The exact Gelu in the one spelling that onnxruntime knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgepack.passes.tune.graph import Graph, is_a

_ROOT_TWO = float(np.sqrt(2.0))


@dataclass(frozen=True, kw_only=True)
class _Erf:
    """erf(x·sign/√2), and the nodes that make it."""

    x: str
    sign: int
    nodes: tuple[onnx.NodeProto, ...]


def order_gelu(graph: Graph) -> int:
    """½·x·(1 − erf(−x/√2)), as Keras writes it, and its like → x·(1 + erf(x/√2))·½, which onnxruntime runs as one operator.

    erf is odd, so both are the same numbers.

    Source: onnxruntime, core/optimizer/gelu_fusion.cc.
    """
    done = 0
    for erf in graph.nodes("Erf"):
        inner = _argument(graph, erf)
        if inner is None or graph.only_taker(erf.output[0]) is None:
            continue
        outer = _product(graph, erf.output[0], inner)
        if outer is None or _is_known(inner, outer):
            continue
        y = outer[-1].output[0]
        graph.replace([*inner.nodes, erf, *outer], _spelled(graph, inner.x, y))
        done += 1
    return done


def _argument(graph: Graph, erf: onnx.NodeProto) -> _Erf | None:
    """What erf is taken of: Neg, Mul and Div by constants alone, up to x/√2."""
    factor, name, nodes = 1.0, erf.input[0], [erf]
    while graph.only_taker(name) is nodes[-1] and abs(abs(factor) * _ROOT_TWO - 1) > 1e-6:
        node = graph.maker(name, "Neg", "Mul", "Div")
        if node is None:
            return None
        name, scale = _scaled(graph, node)
        if not scale:
            return None
        factor *= scale
        nodes.append(node)
    before = graph.maker(name, "Neg")
    if before is not None and graph.only_taker(name) is nodes[-1]:
        factor, name = -factor, before.input[0]
        nodes.append(before)
    if abs(abs(factor) * _ROOT_TWO - 1) > 1e-6:
        return None
    return _Erf(x=name, sign=1 if factor > 0 else -1, nodes=tuple(nodes[1:]))


def _scaled(graph: Graph, node: onnx.NodeProto) -> tuple[str, float]:
    """(x, c) where the node makes c·x; c is 0 where it makes something else."""
    if is_a(node, "Neg"):
        return node.input[0], -1.0
    for i, j in ((0, 1), (1, 0)) if is_a(node, "Mul") else ((0, 1),):
        number = _number(graph, node.input[j])
        if number:
            return node.input[i], number if is_a(node, "Mul") else 1 / number
    return "", 0.0


def _number(graph: Graph, name: str) -> float | None:
    """A constant's one number; None for one of more dimensions, which could give the product more than x has."""
    values = graph.floats(name)
    single = values is not None and values.size == 1 and values.ndim <= 1
    return float(values.reshape(-1)[0]) if values is not None and single else None


def _product(graph: Graph, erf: str, inner: _Erf) -> list[onnx.NodeProto] | None:
    """The nodes that make ½·x·(1 + sign·erf) of erf, the last one last."""
    sum_ = graph.only_taker(erf, "Add" if inner.sign > 0 else "Sub")
    if sum_ is None or (inner.sign < 0 and sum_.input[1] != erf):
        return None
    other = sum_.input[0] if sum_.input[1] == erf else sum_.input[1]
    product = graph.only_taker(sum_.output[0], "Mul")
    if product is None or _number(graph, other) != 1.0:
        return None
    factor = product.input[0] if product.input[1] == sum_.output[0] else product.input[1]
    half = graph.maker(factor, "Mul")
    if half is not None and graph.only_taker(factor) is product:
        if _scaled(graph, half) == (inner.x, 0.5):
            return [sum_, half, product]
        return None
    last = graph.only_taker(product.output[0], "Mul", "Div")
    if factor == inner.x and last is not None and _scaled(graph, last)[1] == 0.5:
        return [sum_, product, last]
    return None


def _is_known(inner: _Erf, outer: list[onnx.NodeProto]) -> bool:
    """Whether onnxruntime fuses it as it is."""
    return len(inner.nodes) == 1 and is_a(inner.nodes[0], "Div") and inner.sign > 0


def _spelled(graph: Graph, x: str, y: str) -> list[onnx.NodeProto]:
    names = [graph.fresh(f"{y}/{part}") for part in ("argument", "erf", "sum", "product")]
    two, one, half = (
        graph.constant(np.array(v, np.float32), f"{y}/{k}")
        for k, v in (("root_two", _ROOT_TWO), ("one", 1.0), ("half", 0.5))
    )
    return [
        graph.node("Div", [x, two], names[0]),
        graph.node("Erf", [names[0]], names[1]),
        graph.node("Add", [names[1], one], names[2]),
        graph.node("Mul", [x, names[2]], names[3]),
        graph.node("Mul", [names[3], half], y),
    ]
