"""Which tensor of one graph is which of the other, so far."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from edgepack.divergence.graph import Graph, Tensor

Shape = tuple[int, ...]


class Match(str, Enum):
    """What says that two tensors are the same: their name, their place in the graph, or only their values."""

    NAME = "name"
    STRUCTURE = "structure"
    VALUES = "values"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two tensors that are to be the same.

    Attributes:
        axes: how B's axes are to be transposed to stand as A's; empty for not at all.
        unsure: other axes would fit as well; which is right, their values tell.
    """

    a: Tensor
    b: Tensor
    how: Match
    axes: tuple[int, ...]
    unsure: bool = False


class Pairs:
    """Pairs found so far; each tensor stands in one at most."""

    def __init__(self) -> None:
        self._by_a: dict[str, Pair] = {}
        self._by_b: dict[str, Pair] = {}

    def add(
        self, a: Tensor, b: Tensor, how: Match, axes: tuple[int, ...], *, unsure: bool = False
    ) -> None:
        """Pair two tensors that are both free."""
        assert self.are_free(a, b)
        pair = Pair(a=a, b=b, how=how, axes=axes, unsure=unsure)
        self._by_a[a.name] = self._by_b[b.name] = pair

    def are_free(self, a: Tensor, b: Tensor) -> bool:
        """Whether neither has its counterpart yet."""
        return a.name not in self._by_a and b.name not in self._by_b

    def of_a(self, name: str) -> str | None:
        """The counterpart in B of A's tensor."""
        return self._by_a[name].b.name if name in self._by_a else None

    def of_b(self, name: str) -> str | None:
        """The counterpart in A of B's tensor."""
        return self._by_b[name].a.name if name in self._by_b else None

    def drop(self, pair: Pair) -> None:
        """Take a pair apart again."""
        del self._by_a[pair.a.name], self._by_b[pair.b.name]

    def left_of_a(self, graph: Graph) -> list[Tensor]:
        """A's tensors without a counterpart, in topological order."""
        return [t for t in graph.tensors.values() if t.name not in self._by_a]

    def left_of_b(self, graph: Graph) -> list[Tensor]:
        """B's."""
        return [t for t in graph.tensors.values() if t.name not in self._by_b]

    def __iter__(self) -> Iterator[Pair]:
        return iter(sorted(self._by_a.values(), key=lambda p: p.a.position))


def fitting_layouts(a: Shape | None, b: Shape | None) -> list[tuple[int, ...]]:
    """The layouts in which a tensor of shape `b` has shape `a`; () is as it is. A cube has several."""
    if a is None or b is None:
        return [()] if a == b else []
    return [axes for axes in layouts(b) if (tuple(b[i] for i in axes) if axes else b) == a]


def layouts(shape: Shape) -> list[tuple[int, ...]]:
    """Ways to read a tensor of this shape: as it is (), from channels last to first, from first to last."""
    rank = len(shape)
    if not 3 <= rank <= 5:
        return [()]
    return [(), (0, rank - 1, *range(1, rank - 1)), (0, *range(2, rank), 1)]
