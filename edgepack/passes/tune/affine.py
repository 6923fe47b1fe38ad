"""Arithmetic with constants on the way into a convolution, as little of it as can be."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, along, attribute, is_a

_KINDS = ("Mul", "Div", "Add", "Sub")
#: Added in float32, such a number rounds to whole ones, which some graphs mean: x + 1.5·2²³ − 1.5·2²³.
_ROUNDS = 2.0**22


@dataclass(frozen=True, kw_only=True)
class _Affine:
    """factor·x + shift, with constants that stretch over the shape of x and do not enlarge it; in float64."""

    x: str
    factor: Array
    shift: Array
    nodes: tuple[onnx.NodeProto, ...] = ()


def fold_affine(graph: Graph) -> int:
    """Mul, Div, Add and Sub by constants in a row (Rescaling, Normalization) → one of each at most; factors go into a Conv behind.

    Between them and the Conv a Transpose may stand. A shift goes into the Conv's bias where that pads nothing.
    """
    done = 0
    for node in graph.nodes(*_KINDS):
        before = graph.maker(node.input[0], *_KINDS) or graph.maker(node.input[1], *_KINDS)
        if before is not None and _step(graph, before) and graph.only_taker(before.output[0]):
            continue
        chain = _chain(graph, node)
        if chain is None:
            continue
        conv, transpose = _conv_behind(graph, chain.nodes[-1].output[0])
        by_channel = None if conv is None else _by_channel(graph, chain, transpose)
        if conv is not None and by_channel is not None:
            done += _fold(graph, chain, conv, transpose, by_channel)
        else:
            done += _shorten(graph, chain)
    return done


def _step(graph: Graph, node: onnx.NodeProto) -> _Affine | None:
    """What a node does to the one input that is not constant, if the shape stays."""
    for x, c in (tuple(node.input), tuple(reversed(node.input))):
        values = graph.floats(c)
        if values is None or graph.value(x) is not None or not graph.is_float(x):
            continue
        shape = graph.shape(node.output[0])
        if shape is None or graph.shape(x) != shape:
            return None
        if is_a(node, "Add", "Sub") and (np.abs(values) >= _ROUNDS).any():
            return None
        return _of(node, x, values.astype(np.float64))
    return None


def _of(node: onnx.NodeProto, x: str, c: Array) -> _Affine | None:
    first = x == node.input[0]
    one, none = np.ones(1), np.zeros(1)
    if is_a(node, "Mul"):
        return _Affine(x=x, factor=c, shift=none, nodes=(node,))
    if is_a(node, "Div"):
        return _Affine(x=x, factor=1 / c, shift=none, nodes=(node,)) if first and c.all() else None
    if is_a(node, "Sub"):
        sign = 1 if first else -1
        return _Affine(x=x, factor=sign * one, shift=-sign * c, nodes=(node,))
    return _Affine(x=x, factor=one, shift=c, nodes=(node,))


def _chain(graph: Graph, first: onnx.NodeProto) -> _Affine | None:
    """As many steps as follow on each other and are seen by the next alone."""
    whole = _step(graph, first)
    node: onnx.NodeProto | None = first
    while whole is not None and node is not None:
        node = graph.only_taker(node.output[0], *_KINDS)
        step = _step(graph, node) if node is not None else None
        if node is None or step is None:
            break
        whole = _Affine(
            x=whole.x,
            factor=whole.factor * step.factor,
            shift=whole.shift * step.factor + step.shift,
            nodes=(*whole.nodes, node),
        )
    if whole is None or not (_fits(whole.factor) and _fits(whole.shift)):
        return None
    # What float32 cannot tell from 1 and 0 is 1 and 0.
    if (whole.factor.astype(np.float32) == 1).all():
        whole = dataclasses.replace(whole, factor=np.ones(1))
    if (whole.shift.astype(np.float32) == 0).all():
        whole = dataclasses.replace(whole, shift=np.zeros(1))
    return whole


def _fits(values: Array) -> bool:
    """Whether all of it is finite in float32."""
    return bool((np.abs(values) <= np.finfo(np.float32).max).all())


def _shorten(graph: Graph, chain: _Affine) -> int:
    """Two nodes at most, and none for 1 and 0."""
    y = chain.nodes[-1].output[0]
    scales, shifts = bool((chain.factor != 1).any()), bool((chain.shift != 0).any())
    if len(chain.nodes) <= scales + shifts:
        return 0
    if not scales and not shifts:
        if not graph.is_hidden(y):
            return 0
        graph.rename(y, chain.x)
    graph.replace(chain.nodes, _spelled(graph, chain.x, y, chain.factor, chain.shift))
    return 1


def _spelled(graph: Graph, x: str, y: str, factor: Array, shift: Array) -> list[onnx.NodeProto]:
    scales, shifts = bool((factor != 1).any()), bool((shift != 0).any())
    nodes = []
    scaled = y
    if scales:
        scaled = graph.fresh(f"{y}/scaled") if shifts else y
        nodes.append(graph.node("Mul", [x, _constant(graph, factor, y)], scaled))
    if shifts:
        nodes.append(graph.node("Add", [scaled if scales else x, _constant(graph, shift, y)], y))
    return nodes


def _constant(graph: Graph, values: Array, y: str) -> str:
    return graph.constant(values.astype(np.float32), f"{y}/constant")


def _conv_behind(graph: Graph, y: str) -> tuple[onnx.NodeProto | None, onnx.NodeProto | None]:
    """The Conv that alone takes y, and the Transpose between them."""
    transpose = graph.only_taker(y, "Transpose")
    y = transpose.output[0] if transpose is not None else y
    conv = graph.only_taker(y, "Conv")
    if conv is None or conv.input[0] != y or attribute(conv, "group", 1) != 1:
        return None, None
    constants = [name for name in conv.input[1:] if name]
    if any(graph.floats(name) is None for name in constants):
        return None, None
    return conv, transpose


def _by_channel(
    graph: Graph, chain: _Affine, transpose: onnx.NodeProto | None
) -> tuple[Array, Array] | None:
    """Factor and shift as the Conv's input channels see them, [C] each."""
    shape = graph.shape(chain.x)
    assert shape is not None
    axis = 1
    if transpose is not None:
        axis = attribute(transpose, "perm", list(reversed(range(len(shape)))))[1]
    factor, shift = (along(values, shape, axis) for values in (chain.factor, chain.shift))
    return None if factor is None or shift is None else (factor, shift)


def _fold(
    graph: Graph,
    chain: _Affine,
    conv: onnx.NodeProto,
    transpose: onnx.NodeProto | None,
    by_channel: tuple[Array, Array],
) -> int:
    factor, shift = by_channel
    kernel = graph.floats(conv.input[1])
    assert kernel is not None
    along = (1, -1, *(1,) * (kernel.ndim - 2))
    pads = any(attribute(conv, "pads", [0]))
    padded = pads or attribute(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    new = onnx.NodeProto()
    new.CopyFrom(conv)
    y = chain.nodes[-1].output[0]
    x, nodes = chain.x, []
    if padded and shift.any():
        alone = len(chain.nodes) == 1 and (factor == 1).all()
        if alone or not factor.all() or not _fits(shift / factor):
            return _shorten(graph, chain)
        # The padding's zeros come after the shift: it stays, in the units of x.
        x = y
        nodes = _spelled(graph, chain.x, y, np.ones(1), chain.shift / chain.factor)
    elif shift.any():
        total = (kernel.astype(np.float64) * shift.reshape(along)).sum(
            axis=tuple(range(1, kernel.ndim))
        )
        bias = graph.floats(conv.input[2]) if len(conv.input) > 2 else None
        total = total if bias is None else total + bias
        del new.input[2:]
        new.input.append(_constant(graph, total, conv.output[0]))
    new.input[1] = _constant(graph, kernel * factor.reshape(along), conv.output[0])
    if transpose is None:
        new.input[0] = x
        old = [*chain.nodes, conv]
    else:
        turned = onnx.NodeProto()
        turned.CopyFrom(transpose)
        turned.input[0] = x
        nodes.append(turned)
        old = [*chain.nodes, transpose, conv]
    graph.replace(old, [*nodes, new])
    return 1
