"""Tensors of two graphs that carry the same name."""

from __future__ import annotations

import re
from collections import defaultdict

from edgepack.divergence.graph import Graph, Tensor
from edgepack.divergence.pairs import Match, Pairs, fitting_layouts
from edgepack.onnxfile import ONNX_DOMAINS

#: What onnxruntime puts around a tensor's name to call a form of it that took its place: quantized, dequantized, cast to float16 or back.
#: Source: files that onnxruntime 1.32's quantizer and ORT converter wrote.
_AFFIXES = re.compile(
    r"(?:InsertedPrecisionFreeCast_)?(?P<name>.+?)"
    r"(?:_(?:Quantize|Dequantize)Linear_(?:Input|Output)(?:_\d+)?|_q_to_dq|_post_dq)?"
)
#: What exporters number their values with: equal numbers in two files say nothing.
_NUMBER = re.compile(r"%?\d+")


#: Operators whose output's scale is its own, not one that came along.
_QUANTIZED = ("QLinear", "QGemm")
_SCALE = "_scale"


def pair_by_name(a: Graph, b: Graph, pairs: Pairs) -> None:
    """Pair tensors of one name, of equal shape or of the same in another layout.

    The model's inputs and outputs first; then integers whose scale is called after the tensor it is the scale of, since onnxruntime may
    call the tensor itself by the name of its node; then what has the same name where it is made; then any form of it.
    """
    for name, tensor in a.tensors.items():
        if tensor.layer is None and name in b.tensors:
            pairs.add(tensor, b.tensors[name], Match.NAME, ())
    for root, outputs in a.outputs.items():
        other = next((r for r, names in b.outputs.items() if set(names) & set(outputs)), None)
        if other is not None:
            _pair(a.tensors[root], b.tensors[other], pairs)
    scaled = ({n: _scaled(t) for n, t in graph.tensors.items()} for graph in (a, b))
    known_a, known_b = ({n: s for n, s in names.items() if s} for names in scaled)
    for name, meant in known_b.items():
        if meant in a.tensors and list(known_b.values()).count(meant) == 1:
            _pair(a.tensors[meant], b.tensors[name], pairs, sure=True)
    for name, meant in known_a.items():
        if meant in b.tensors and list(known_a.values()).count(meant) == 1:
            _pair(a.tensors[name], b.tensors[meant], pairs, sure=True)
    for name, tensor in a.tensors.items():
        if name in b.tensors and known_a.get(name, name) == known_b.get(name, name):
            _pair(tensor, b.tensors[name], pairs)
    _pair_forms(a, b, pairs)


def _pair_forms(a: Graph, b: Graph, pairs: Pairs) -> None:
    """Pair tensors that have a name in common once affixes are taken off; not where two have it."""
    sides: list[dict[str, set[str]]] = [defaultdict(set), defaultdict(set)]
    for graph, bare in zip((a, b), sides, strict=True):
        for tensor in graph.tensors.values():
            for alias in tensor.aliases:
                found = _AFFIXES.fullmatch(alias)
                bare[found["name"] if found else alias].add(tensor.name)
    for name, here in sides[0].items():
        there = sides[1].get(name, set())
        if len(here) == len(there) == 1:
            _pair(a.tensors[next(iter(here))], b.tensors[next(iter(there))], pairs)


def _scaled(tensor: Tensor) -> str | None:
    """The tensor that the scale of a fused operator's integers is called after."""
    scale, layer = tensor.tap.scale, tensor.layer
    if scale is None or layer is None or not layer.operator.startswith(_QUANTIZED):
        return None
    return scale.scale.removesuffix(_SCALE) if scale.scale.endswith(_SCALE) else None


def _pair(x: Tensor, y: Tensor, pairs: Pairs, *, sure: bool = False) -> None:
    """Pair two tensors of one name, unless what they are says otherwise. `sure`: the name itself cannot be an accident."""
    if not pairs.are_free(x, y) or x.is_number != y.is_number or x.is_float != y.is_float:
        return
    fits = fitting_layouts(x.kind.shape, y.kind.shape)
    same = x.layer is None or y.layer is None or x.layer.operator == y.layer.operator
    if not fits or (_NUMBER.fullmatch(x.name) and not same):
        return
    fused = any(t.layer is not None and t.layer.proto.domain not in ONNX_DOMAINS for t in (x, y))
    if fits == [()] or (() in fits and (same or not fused)):
        pairs.add(x, y, Match.NAME, ())
    elif sure:
        pairs.add(x, y, Match.NAME, fits[0], unsure=len(fits) > 1)
    # Else it was turned, and a fused operator's output may have its node's name: the values tell.
