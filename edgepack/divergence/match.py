"""Which tensors of two models are the same: by name, by structure, by values, in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgepack.divergence.distance import Distance
from edgepack.divergence.graph import Tensor
from edgepack.divergence.measure import Side, measure
from edgepack.divergence.names import pair_by_name
from edgepack.divergence.pairs import Match, Pair, Pairs
from edgepack.divergence.similarity import LIKENESS, pair_by_values, settle_layouts
from edgepack.divergence.structure import pair_by_structure


@dataclass(frozen=True, kw_only=True)
class Compared:
    """The pairs and how far apart they are, in A's order; and who found no counterpart, by name."""

    pairs: tuple[tuple[Pair, Distance], ...]
    left_of_a: tuple[str, ...]
    left_of_b: tuple[str, ...]


def match(a: Side, b: Side) -> Pairs:
    """The pairs of all three ways; those by values still to be checked on all their numbers."""
    pairs = Pairs()
    pair_by_name(a.graph, b.graph, pairs)
    pair_by_structure(a.graph, b.graph, pairs)
    settle_layouts(a, b, pairs)
    pair_by_values(a, b, pairs)
    return pairs


def compare(a: Side, b: Side) -> Compared:
    """Pairs of numbers only, measured; what was paired by values and is not alike on all its numbers is taken apart."""
    pairs = match(a, b)
    kept = [p for p in pairs if p.a.is_number and p.b.is_number and _differs_at_all(p)]
    result: list[tuple[Pair, Distance]] = []
    for pair, distance in zip(kept, measure(a, b, kept), strict=True):
        if pair.how is Match.VALUES and min(distance.cosine, distance.correlation) <= LIKENESS:
            pairs.drop(pair)
        else:
            result.append((pair, distance))
    return Compared(
        pairs=tuple(result),
        left_of_a=_names(pairs.left_of_a(a.graph)),
        left_of_b=_names(pairs.left_of_b(b.graph)),
    )


def _differs_at_all(pair: Pair) -> bool:
    """Not an input of the model that both take as it is."""
    given = pair.a.layer is None and pair.b.layer is None
    return not (given and pair.a.tap.name == pair.a.name and pair.b.tap.name == pair.b.name)


def _names(tensors: Sequence[Tensor]) -> tuple[str, ...]:
    return tuple(t.name for t in tensors)
