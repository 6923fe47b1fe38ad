"""The distances of many pairs, a bounded amount of activations at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from edgepack.divergence.distance import Distance, Meter
from edgepack.divergence.graph import Graph, Tensor
from edgepack.divergence.pairs import Pair
from edgepack.divergence.probe import Probe
from edgepack.prove.engine import Tensors

#: How many bytes of tensors are held at a time, both models' together. One larger than that is held alone.
BUDGET_BYTES = 256 * 2**20
_T = TypeVar("_T")
#: What a number takes at most once it is in numpy, by the beginning of its type.
_WIDTHS = (("tensor(double", 8), ("tensor(int64", 8), ("tensor(uint64", 8), ("tensor(bool", 1))


class Side:
    """One of the two models: what it is, what it can be asked, and with what."""

    def __init__(self, probe: Probe, graph: Graph, feeds: Sequence[Tensors]) -> None:
        self.probe, self.graph, self.feeds = probe, graph, feeds

    def values(self, tensors: Sequence[Tensor]) -> Iterator[list[NDArray[np.generic]]]:
        """The tensors as their consumers see them, feed by feed."""
        taps = [t.tap for t in tensors]
        return self.probe.values(taps, self.graph.kinds, self.feeds)


def measure(
    a: Side, b: Side, pairs: Sequence[Pair], *, budget_bytes: int = BUDGET_BYTES
) -> list[Distance]:
    """B's distance from A for each pair, over all feeds."""
    result: list[Distance] = []
    for chunk in chunks(pairs, lambda p: size_bytes(p.a) + size_bytes(p.b), budget_bytes):
        meters = [Meter() for _ in chunk]
        here, there = a.values([p.a for p in chunk]), b.values([p.b for p in chunk])
        for _ in a.feeds:
            xs, ys = next(here), next(there)
            for meter, pair, x, y in zip(meters, chunk, xs, ys, strict=True):
                meter.add(x, turned(y, pair.axes))
            # Let go before the next feed makes as many.
            del xs, ys, x, y
        result += [m.distance() for m in meters]
    return result


def turned(x: NDArray[np.generic], axes: tuple[int, ...]) -> NDArray[np.generic]:
    """B's tensor with its axes as A's."""
    return x.transpose(axes) if axes else x


def size_bytes(tensor: Tensor) -> int:
    """What a tensor takes in memory."""
    width = next((w for start, w in _WIDTHS if tensor.kind.type.startswith(start)), 4)
    return math.prod(tensor.kind.shape or ()) * width


def chunks(
    items: Iterable[_T], size: Callable[[_T], int], budget_bytes: int = BUDGET_BYTES
) -> Iterator[list[_T]]:
    """The items in order, in lists that take no more than the budget, or hold one item."""
    chunk: list[_T] = []
    total = 0
    for item in items:
        more = size(item)
        if chunk and total + more > budget_bytes:
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += more
    if chunk:
        yield chunk
