"""Tensors of two graphs that hold the same numbers, more or less: the last resort, where neither names nor structure tell.

Tensors of equal size are compared on a sample of their numbers, in each layout. A pair must be alike both in cosine and in correlation
(what went through a ReLU is positive, and close to anything else that is in cosine alone), as alike as either is to any other tensor
of the other model, whether that one is paired or not, and in an order that contradicts no pair made before.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepack.divergence.graph import Graph, Tensor
from edgepack.divergence.measure import Side, chunks, size_bytes, turned
from edgepack.divergence.pairs import Match, Pairs, fitting_layouts, layouts

#: Tensors less alike than this are not called the same.
LIKENESS = 0.9
#: Numbers looked at per tensor and feed, and the fewest that say anything.
_SAMPLE, _FEWEST = 2048, 16
#: Likenesses closer than this tell nothing apart.
_MARGIN = 0.01

Vector = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class _Sketch:
    tensor: Tensor
    axes: tuple[int, ...]
    numbers: Vector


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    likeness: float
    apart: float
    a: Tensor
    b: Tensor
    axes: tuple[int, ...]


def settle_layouts(a: Side, b: Side, pairs: Pairs) -> None:
    """Give each pair whose layout its shape leaves open the one in which its values are most alike."""
    for pair in [p for p in pairs if p.unsure]:
        (here,) = _sketches(a, [pair.a], turn=False)
        fits = fitting_layouts(pair.a.kind.shape, pair.b.kind.shape)
        there = [s for s in _sketches(b, [pair.b], turn=True) if s.axes in fits]
        likeness = _likeness([here], there)[0]
        # As it is comes first, and another layout must be clearly better.
        best = there[int(np.argmax(likeness > likeness.max() - _MARGIN))]
        pairs.drop(pair)
        pairs.add(pair.a, pair.b, pair.how, best.axes)


def pair_by_values(a: Side, b: Side, pairs: Pairs) -> None:
    """Pair what is left, float tensors only."""
    left_a = {_count(t) for t in pairs.left_of_a(a.graph) if _is_telling(t)}
    counts = left_a & {_count(t) for t in pairs.left_of_b(b.graph) if _is_telling(t)}
    if not counts:
        return
    sketches_a, sketches_b = (
        _by_count(
            _sketches(
                side,
                [t for t in side.graph.tensors.values() if _is_telling(t) and _count(t) in counts],
                turn=side is b,
            )
        )
        for side in (a, b)
    )
    candidates: list[_Candidate] = []
    for count in sorted(counts):
        candidates += _candidates(a, b, sketches_a[count], sketches_b[count], pairs)
    order = _Order(a.graph, b.graph, pairs)
    for c in sorted(
        candidates, key=lambda c: (-round(c.likeness, 3), c.apart, c.a.position, c.b.position)
    ):
        if pairs.are_free(c.a, c.b) and order.allows(c.a, c.b):
            pairs.add(c.a, c.b, Match.VALUES, c.axes)
            order.add(c.a, c.b)


def _count(tensor: Tensor) -> int:
    return math.prod(tensor.kind.shape or ())


def _is_telling(tensor: Tensor) -> bool:
    return tensor.is_float and tensor.is_number and _count(tensor) >= _FEWEST


def _by_count(sketches: Iterable[_Sketch]) -> dict[int, list[_Sketch]]:
    found: dict[int, list[_Sketch]] = defaultdict(list)
    for sketch in sketches:
        found[_count(sketch.tensor)].append(sketch)
    return found


def _sketches(side: Side, tensors: Sequence[Tensor], *, turn: bool) -> list[_Sketch]:
    """A sample of each tensor's numbers; with `turn`, one for each layout."""
    found: list[_Sketch] = []
    for chunk in chunks(tensors, size_bytes):
        parts: dict[tuple[str, tuple[int, ...]], list[Vector]] = defaultdict(list)
        for values in side.values(chunk):
            for tensor, x in zip(chunk, values, strict=True):
                for axes in layouts(x.shape) if turn else [()]:
                    parts[tensor.name, axes].append(_sample(turned(x, axes)))
        by_name = {t.name: t for t in chunk}
        for (name, axes), vectors in parts.items():
            numbers = np.nan_to_num(np.concatenate(vectors), posinf=0.0, neginf=0.0)
            found.append(_Sketch(tensor=by_name[name], axes=axes, numbers=numbers))
    return found


def _sample(x: NDArray[np.generic]) -> Vector:
    """The same places of every tensor with that many numbers."""
    flat = x.reshape(-1)
    if flat.size > _SAMPLE:
        places = np.random.default_rng(flat.size).integers(0, flat.size, _SAMPLE)
        # Without a copy of a transposed tensor.
        flat = x[np.unravel_index(places, x.shape)]
    return flat.astype(np.float32)


def _candidates(
    a: Side, b: Side, here: Sequence[_Sketch], there: Sequence[_Sketch], pairs: Pairs
) -> list[_Candidate]:
    likeness = _likeness(here, there)
    best_a, best_b = likeness.max(axis=1), likeness.max(axis=0)
    ends_a, ends_b = len(a.graph.tensors), len(b.graph.tensors)
    return [
        _Candidate(
            likeness=float(likeness[i, j]),
            apart=abs(here[i].tensor.position / ends_a - there[j].tensor.position / ends_b),
            a=here[i].tensor,
            b=there[j].tensor,
            axes=there[j].axes,
        )
        for i, j in np.argwhere(likeness > LIKENESS)
        if pairs.are_free(here[i].tensor, there[j].tensor)
        and likeness[i, j] >= max(best_a[i], best_b[j]) - _MARGIN
    ]


def _likeness(here: Sequence[_Sketch], there: Sequence[_Sketch]) -> NDArray[np.float32]:
    """Of each with each: cosine or correlation, whichever is less."""
    size = min(len(s.numbers) for s in (*here, *there))
    x = np.stack([s.numbers[:size] for s in here])
    y = np.stack([s.numbers[:size] for s in there])
    with np.errstate(all="ignore"):
        return np.minimum(_cosines(x, y), _cosines(_centered(x), _centered(y)))


def _centered(x: Vector) -> Vector:
    return np.asarray(x - x.mean(axis=1, keepdims=True), np.float32)


def _cosines(x: Vector, y: Vector) -> NDArray[np.float32]:
    """Of each row of x with each of y; 0 where a row is nothing."""
    norms_x, norms_y = (np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y))
    cosines = (x / norms_x) @ (y / norms_y).T
    return np.nan_to_num(np.asarray(cosines, np.float32), posinf=0.0, neginf=0.0)


class _Order:
    """What lies above what in both graphs, as far as it is paired."""

    def __init__(self, a: Graph, b: Graph, pairs: Pairs) -> None:
        self._above = (_ancestors(a), _ancestors(b))
        self._places: list[tuple[int, int]] = [(p.a.position, p.b.position) for p in pairs]

    def allows(self, a: Tensor, b: Tensor) -> bool:
        """Whether no pair lies above one and below the other."""
        above_a, above_b = self._above
        for x, y in self._places:
            if above_a[a.position] >> x & 1 and above_b[y] >> b.position & 1:
                return False
            if above_a[x] >> a.position & 1 and above_b[b.position] >> y & 1:
                return False
        return True

    def add(self, a: Tensor, b: Tensor) -> None:
        """One more pair."""
        self._places.append((a.position, b.position))


def _ancestors(graph: Graph) -> list[int]:
    """For each tensor by position, the positions of all it is made from, as bits."""
    found = [0] * len(graph.tensors)
    for tensor in graph.tensors.values():
        if tensor.layer is not None:
            found[tensor.position] = _union(
                found[p] | 1 << p
                for p in (graph.tensors[n].position for _, n in tensor.layer.inputs)
            )
    return found


def _union(sets: Iterable[int]) -> int:
    result = 0
    for bits in sets:
        result |= bits
    return result
