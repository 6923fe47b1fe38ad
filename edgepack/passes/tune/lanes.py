"""Channels of zeros where kernels are much quicker with whole vectors of channels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, along, attribute, is_a

#: Channels in one vector of the integer kernels.
_LANES = 16
#: Bytes that VNNI multiplies and adds in one step: a product over another number of them is padded row by row.
_DOT = 4
_BY_CHANNEL = (
    *("Relu", "Clip", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"),
)
_BINARY = ("Add", "Sub", "Mul")


@dataclass(kw_only=True)
class _Bundle:
    """Values that must have as many channels as each other, and what touches them."""

    names: list[str] = field(default_factory=list)
    channels: int = 0
    places: int = 0
    depthwise: bool = False
    pooled: bool = False
    fixed: bool = False


def fill_lanes(graph: Graph) -> int:
    """[N, C, H, W] with depthwise Convs, or of a number of channels that 4 does not divide → as many channels as fill vectors of 16, the
    new ones weighing nothing.

    Convs with group 1 make them and end them: kernels of zeros on either side; what lies between works channel by channel. The other channels'
    numbers stay as they are. For INT8 on x86: onnxruntime's depthwise kernel computes what is left over of 16 channels one by
    one (28 channels take three times as long as 32), and its matrix products take rows of whole fours.

    Source: onnxruntime, core/mlas/lib/qdwconv.cpp and qgemm.h; measured.
    """

    def slow(bundle: _Bundle) -> bool:
        odd = bundle.channels % _DOT > 0 and bundle.channels > _LANES
        return bundle.depthwise or odd

    return _fill(graph, slow)


def fill_blocks(graph: Graph) -> int:
    """As `fill_lanes`, but only where depthwise Convs have fewer than 16 channels, or a number that 4 does not divide, and about pools.

    For float on x86: such a Conv is left out of onnxruntime's blocked layout (42 channels take twice as long as 48), or of what
    stays in it behind a sum; pools are in it with whole blocks of 16 alone. Other numbers cost nothing there.

    Source: onnxruntime, core/optimizer/nchwc_transformer.cc; measured.
    """

    def slow(bundle: _Bundle) -> bool:
        few = bundle.channels % _DOT > 0 or bundle.channels < _LANES
        return (bundle.depthwise and few) or bundle.pooled

    return _fill(graph, slow)


def _fill(graph: Graph, slow: Callable[[_Bundle], bool]) -> int:
    bundles = [
        b
        for b in _bundles(graph)
        if not b.fixed and b.places > 1 and b.channels % _LANES and slow(b)
    ]
    added = {name: -b.channels % _LANES for b in bundles for name in b.names}
    for node in graph.nodes():
        if any(name in added for name in (*node.input, *node.output)):
            _widen(graph, node, added)
    return len(bundles)


def _bundles(graph: Graph) -> list[_Bundle]:
    roots: dict[str, str] = {}

    def root(name: str) -> str:
        while roots.setdefault(name, name) != name:
            name = roots[name]
        return name

    fixed: set[str] = set()
    depthwise: set[str] = set()
    pooled: set[str] = set()
    for node in graph.nodes():
        tied, loose = _tied(graph, node), _ends(graph, node)
        for name in (*tied, *loose):
            roots[root(name)] = root(tied[0] if tied else name)
        if is_a(node, "Conv") and tied:
            depthwise.add(node.output[0])
        if is_a(node, "MaxPool", "AveragePool"):
            pooled.add(node.output[0])
        touched = [n for n in (*node.input, *node.output) if n and graph.value(n) is None]
        fixed |= {n for n in touched if n not in tied and n not in loose}
    bundles: dict[str, _Bundle] = defaultdict(_Bundle)
    for name in list(roots):
        shape = graph.shape(name)
        bundle = bundles[root(name)]
        bundle.names.append(name)
        bundle.depthwise |= name in depthwise
        bundle.pooled |= name in pooled
        whole = shape is not None and len(shape) == 4 and graph.is_float(name)
        bundle.fixed |= not whole or name in fixed or not graph.is_hidden(name)
        bundle.fixed |= not graph.maker(name) or not all(is_a(n) for n in graph.takers(name))
        if whole and shape is not None:
            bundle.channels = shape[1]
            bundle.places = max(bundle.places, math.prod(shape[2:]))
    return list(bundles.values())


def _tied(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """The values that a node works on channel by channel; none, where it does something else."""
    x, y = node.input[0] if node.input else "", node.output[0]
    if len(node.output) > 1:
        return []  # MaxPool's Indices count the places of all channels before theirs.
    if is_a(node, *_BY_CHANNEL) or (is_a(node, "Conv") and _is_depthwise(graph, node)):
        return [x, y]
    if is_a(node, "Resize"):
        return [x, y] if _is_spatial(graph, node) else []
    if is_a(node, "PRelu"):
        return [x, y] if _of_channels(graph, node.input[1], x) is not None else []
    if is_a(node, *_BINARY):
        return _summands(graph, node)
    return []


def _summands(graph: Graph, node: onnx.NodeProto) -> list[str]:
    shape = graph.shape(node.output[0])
    values = [n for n in node.input if graph.value(n) is None]
    constants = [n for n in node.input if graph.value(n) is not None]
    channels = {(graph.shape(n) or ())[1:2] for n in values}
    if shape is None or channels != {shape[1:2]}:
        return []
    if any(_of_channels(graph, n, node.output[0]) is None for n in constants):
        return []
    return [*values, node.output[0]]


def _ends(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """What a Conv takes and makes where it mixes all channels, and may take and make more of them."""
    if not is_a(node, "Conv") or attribute(node, "group", 1) != 1:
        return []
    known = all(graph.floats(n) is not None for n in node.input[1:] if n)
    return [node.input[0], node.output[0]] if known else []


def _is_depthwise(graph: Graph, node: onnx.NodeProto) -> bool:
    kernel = graph.floats(node.input[1])
    group = attribute(node, "group", 1)
    known = all(graph.floats(n) is not None for n in node.input[1:] if n)
    return known and kernel is not None and 1 < group == kernel.shape[0] and kernel.shape[1] == 1


def _is_spatial(graph: Graph, resize: onnx.NodeProto) -> bool:
    scales = graph.floats(resize.input[2]) if len(resize.input) == 3 else None
    known = scales is not None and scales.size > 2 and bool((scales[:2] == 1).all())
    return known and attribute(resize, "axes") is None


def _of_channels(graph: Graph, name: str, x: str) -> Array | None:
    return along(graph.floats(name), graph.shape(x), 1)


def _widen(graph: Graph, node: onnx.NodeProto, added: dict[str, int]) -> None:
    new = onnx.NodeProto()
    new.CopyFrom(node)
    x, y = node.input[0], node.output[0]
    if is_a(node, "Conv"):
        deep = _is_depthwise(graph, node)
        _pad(graph, new, 1, (added.get(y, 0), 0 if deep else added.get(x, 0)))
        _pad(graph, new, 2, (added.get(y, 0),))
        if deep:
            (group,) = (a for a in new.attribute if a.name == "group")
            group.i += added[y]
    elif is_a(node, "PRelu", *_BINARY):
        for i, name in enumerate(node.input):
            values = graph.value(name)
            if values is not None and values.size > 1:
                by_channel = _of_channels(graph, name, y)
                assert by_channel is not None
                new.input[i] = graph.constant(by_channel.reshape(-1, 1, 1), name)
                _pad(graph, new, i, (added[y], 0, 0))
    graph.replace([node], [new])
    if y in added:
        graph.forget_shape(y)


def _pad(graph: Graph, node: onnx.NodeProto, index: int, behind: tuple[int, ...]) -> None:
    """Zeros behind a constant that a node takes, along its first axes."""
    if index >= len(node.input) or not node.input[index] or not any(behind):
        return
    values = graph.floats(node.input[index])
    assert values is not None
    widths = [(0, n) for n in (*behind, *(0,) * (values.ndim - len(behind)))]
    node.input[index] = graph.constant(np.pad(values, widths), node.input[index])
