"""Tensors of two graphs that stand in the same place: renamed graphs, and what lies around an edit.

A place is told by the operator, the shapes of outputs and weights, and everything above or below. Only what is unique on both sides is
paired, and what lies next to a pair when there is but one candidate; two branches that are alike in everything stay apart, for their
values to tell. Symmetry is not guessed at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

from edgepack.divergence.graph import Graph, Layer
from edgepack.divergence.pairs import Match, Pairs, fitting_layouts

#: Their inputs may stand in any order.
_COMMUTATIVE = frozenset(("Add", "Mul", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal"))
#: Layers that may have been put between two that were one above the other.
_INSERTED = 3
_Key = Callable[[Graph, Layer], Hashable]


def pair_by_structure(a: Graph, b: Graph, pairs: Pairs) -> None:
    """Pair what stands in the same place: with equal attributes first, then whatever they are."""
    for own in (_strict, _loose):
        table: dict[Hashable, int] = {}
        sides = (_Side.of(a, own, table), _Side.of(b, own, table))
        # Whose neighbours were looked at: what they are does not change.
        seen: set[str] = set()
        found = True
        while found:
            found = False
            for kind in ("both", "above", "below"):
                found = _pair_unique(kind, sides, pairs) or found
            while _pair_neighbours(sides, pairs, seen):
                found = True


@dataclass(frozen=True, kw_only=True)
class _Side:
    """A graph, and for each layer a number for itself, for itself with all above it, and with all below it."""

    graph: Graph
    consumers: dict[str, list[tuple[int, Layer]]]
    own: list[int]
    above: list[int]
    below: list[int]
    both: list[int]
    turns: int

    @staticmethod
    def of(graph: Graph, key: _Key, table: dict[Hashable, int]) -> _Side:
        """`table` is shared by both graphs: equal numbers mean equal places."""

        def number(*parts: Hashable) -> int:
            return table.setdefault(parts, len(table))

        consumers = graph.consumers
        made = {n: (layer, place) for layer in graph.layers for place, n in layer.outputs}
        own = [number("own", key(graph, layer)) for layer in graph.layers]
        above = [0] * len(own)
        for layer in graph.layers:
            sources = []
            for place, name in layer.inputs:
                if name in made:
                    source, slot = made[name]
                    sources.append((place, above[source.index], slot))
                else:
                    sources.append((place, number("input", name), 0))
            above[layer.index] = number("above", own[layer.index], _ordered(layer, sources))
        below = [0] * len(own)
        for layer in reversed(graph.layers):
            users = tuple(
                (
                    slot,
                    graph.outputs.get(name, ()),
                    tuple(
                        sorted(
                            (_place(user, place), below[user.index])
                            for place, user in consumers[name]
                        )
                    )
                    if name in consumers
                    else (),
                )
                for slot, name in layer.outputs
            )
            below[layer.index] = number("below", own[layer.index], users)
        both = [number("both", x, y) for x, y in zip(above, below, strict=True)]
        turns = sum(layer.operator == "Transpose" for layer in graph.layers)
        return _Side(
            graph=graph,
            consumers=consumers,
            own=own,
            above=above,
            below=below,
            both=both,
            turns=turns,
        )

    def source(self, name: str) -> Layer | None:
        """What makes a tensor."""
        return self.graph.tensors[name].layer


def _strict(graph: Graph, layer: Layer) -> Hashable:
    attributes = sorted(
        a.SerializeToString(deterministic=True)
        for a in layer.proto.attribute
        if not (a.HasField("g") or a.graphs or a.HasField("t") or a.tensors)
    )
    return (_loose(graph, layer), *attributes)


def _loose(graph: Graph, layer: Layer) -> Hashable:
    shapes = tuple((place, graph.kinds[n].shape) for place, n in layer.outputs)
    return (layer.operator, shapes, layer.weights, len(layer.inputs))


def _place(layer: Layer, place: int) -> int:
    return 0 if layer.operator in _COMMUTATIVE else place


def _ordered(layer: Layer, sources: list[tuple[int, int, int]]) -> tuple[tuple[int, int, int], ...]:
    return tuple(sorted((_place(layer, place), above, slot) for place, above, slot in sources))


def _free(side: _Side, pairs: Pairs, first: bool) -> Iterable[Layer]:
    of = pairs.of_a if first else pairs.of_b
    return (x for x in side.graph.layers if all(of(n) is None for _, n in x.outputs))


def _pair_unique(kind: str, sides: tuple[_Side, _Side], pairs: Pairs) -> bool:
    """Pair layers that have the same number, of this kind, as one free layer on the other side and none on their own."""
    classes: list[dict[int, list[Layer]]] = [defaultdict(list), defaultdict(list)]
    for side, found, first in zip(sides, classes, (True, False), strict=True):
        numbers = getattr(side, kind)
        for layer in _free(side, pairs, first):
            found[numbers[layer.index]].append(layer)
    done = False
    for number, here in classes[0].items():
        there = classes[1].get(number, [])
        if len(here) == len(there) == 1:
            done = _pair(here[0], there[0], sides, pairs) or done
    return done


def _pair_neighbours(sides: tuple[_Side, _Side], pairs: Pairs, seen: set[str]) -> bool:
    """Pair the only layer of its kind that takes, or makes, what a paired one makes, or takes."""
    done = False
    a, b = sides
    for pair in [p for p in pairs if p.a.name not in seen]:
        seen.add(pair.a.name)
        users: list[dict[tuple[int, int], list[Layer]]] = [defaultdict(list), defaultdict(list)]
        for side, found, name in zip(sides, users, (pair.a.name, pair.b.name), strict=True):
            for place, layer in side.consumers.get(name, ()):
                found[_place(layer, place), side.own[layer.index]].append(layer)
        for key, here in users[0].items():
            there = users[1].get(key, [])
            if len(here) == len(there) == 1:
                done = _pair(here[0], there[0], sides, pairs) or done
        if pair.a.layer is None or pair.b.layer is None:
            continue
        if a.own[pair.a.layer.index] != b.own[pair.b.layer.index]:
            continue
        if pair.a.layer.operator in _COMMUTATIVE:
            continue
        given = dict(pair.b.layer.inputs)
        for place, name in pair.a.layer.inputs:
            x, y = a.source(name), b.source(given[place]) if place in given else None
            if place >= 0 and x is not None and y is not None:
                done = _pair(x, y, sides, pairs) or done
    return done


def _pair(x: Layer, y: Layer, sides: tuple[_Side, _Side], pairs: Pairs) -> bool:
    """Pair the outputs of two layers, unless they differ themselves or what they take says otherwise."""
    a, b = sides
    alike = a.own[x.index] == b.own[y.index] and [p for p, _ in x.outputs] == [
        p for p, _ in y.outputs
    ]
    if not alike or not _agree(x, y, sides, pairs):
        return False
    outputs = [
        (a.graph.tensors[n], b.graph.tensors[m])
        for (_, n), (_, m) in zip(x.outputs, y.outputs, strict=True)
    ]
    if not all(pairs.are_free(s, t) for s, t in outputs):
        return False
    turning = a.turns != b.turns
    for s, t in outputs:
        # Where one graph turns axes more often, a cube may have been turned too.
        unsure = turning and len(fitting_layouts(s.kind.shape, t.kind.shape)) > 1
        pairs.add(s, t, Match.STRUCTURE, (), unsure=unsure)
    return True


def _agree(x: Layer, y: Layer, sides: tuple[_Side, _Side], pairs: Pairs) -> bool:
    """Whether no input of one has its counterpart elsewhere than in the same place of the other, or little above it."""
    a, b = sides
    # What a subgraph captures stands in no place.
    placed = [[(p, n) for p, n in layer.inputs if p >= 0] for layer in (x, y)]
    here, there = [[n for _, n in side] for side in placed]
    if x.operator in _COMMUTATIVE:
        return all(_stands_in(n, there, b, pairs.of_a) for n in here) and all(
            _stands_in(n, here, a, pairs.of_b) for n in there
        )
    if [p for p, _ in placed[0]] != [p for p, _ in placed[1]]:
        return False
    return all(
        _stands_in(n, [m], b, pairs.of_a) and _stands_in(m, [n], a, pairs.of_b)
        for n, m in zip(here, there, strict=True)
    )


def _stands_in(name: str, places: list[str], other: _Side, of: Callable[[str], str | None]) -> bool:
    """Whether a tensor's counterpart is one of `places`, or a layer was put in between; so also if it has none yet."""
    wanted = of(name)
    near = list(places)
    for _ in range(_INSERTED + 1):
        if wanted is None or wanted in near:
            return True
        makers = [layer for n in near if (layer := other.source(n)) is not None]
        near = [n for layer in makers for _, n in layer.inputs]
    return False
