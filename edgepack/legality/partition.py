"""Who runs which part of a graph: each provider in order takes what it can, in pieces that can be cut out.

A piece must be convex: no way out of it and back into it, or neither side could run first. onnxruntime's own partitioner may lay its
cuts elsewhere in places (it fuses operators before, and some providers refuse pieces that are not worth it): the numbers are what the
operator tables say, not a measurement on the device.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack.legality.graph import GraphView, Node
from edgepack.legality.macs import node_macs
from edgepack.legality.support import Left, left_by, refused
from edgepack.legality.tables import ProviderTable, load_table, table_names
from edgepack.targets import TargetProfile


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one provider takes of a graph.

    Attributes:
        known: edgepack has an operator table of it; without one nothing is said of it, and it is given nothing.
        operators, operator_share: nodes it runs, and their share of all nodes, 0–1.
        macs, mac_share: multiply-accumulates it runs, and their share of all.
        partitions: pieces it gets.
        left: what it would not take, had it been asked first, and why.
    """

    provider: str
    title: str
    known: bool
    operators: int
    operator_share: float
    macs: int
    mac_share: float
    partitions: int
    left: tuple[Left, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        own = {k: v for k, v in vars(self).items() if k != "left"}
        left = [
            {"operator": x.operator, "why": x.why, "nodes": [n.name for n in x.nodes]}
            for x in self.left
        ]
        return {**own, "left": left}


def tables_of(profile: TargetProfile, way: str = "") -> dict[str, ProviderTable | None]:
    """The operator table of each of a profile's providers, in order: the one its rule `provider_operators` names, else the one of the
    provider's name, else None.

    Args: way: only providers that run a precision made that way.

    Raises:
        TargetError: the rule names a table that is not there.
    """
    named = (profile.legality.get("provider_operators") or {}).get("tables", ())
    own = {table.provider: table for table in map(load_table, named)}
    known = table_names()
    return {
        p.name: own.get(p.name) or (load_table(p.name) if p.name in known else None)
        for p in (profile.runtime_for(way) if way else profile.runtime).providers
    }


def partition(graph: GraphView, providers: Mapping[str, ProviderTable | None]) -> tuple[Part, ...]:
    """What each provider takes, in the order in which they are asked.

    Args:
        providers: operator table by name; None where edgepack has none.
    """
    free = set(range(len(graph.nodes)))
    macs = [node_macs(n, graph) or 0 for n in graph.nodes]
    parts = []
    for name, table in providers.items():
        taken = (
            {i for i in free if refused(table, graph.nodes[i], graph) is None} if table else set()
        )
        free -= taken
        own = sum(macs[i] for i in taken)
        parts.append(
            Part(
                provider=name,
                title=table.title if table else name,
                known=table is not None,
                operators=len(taken),
                operator_share=len(taken) / max(1, len(graph.nodes)),
                macs=own,
                mac_share=own / max(1, sum(macs)),
                partitions=len(pieces(graph.nodes, taken)),
                left=left_by(table, graph) if table else (),
            )
        )
    return tuple(parts)


def pieces(nodes: Sequence[Node], taken: Collection[int]) -> list[list[int]]:
    """The nodes of `taken` in connected convex pieces, as few as merging along edges gives.

    Two pieces that an edge joins become one unless another way leads from the one to the other through a third: then each would wait
    for the other.

    Args:
        nodes: all of them, in topological order.
        taken: places in `nodes`.
    """
    makers = {name: i for i, node in enumerate(nodes) for name in node.outputs}
    before = [
        sorted({makers[n] for n in node.takes if n in makers} - {i}) for i, node in enumerate(nodes)
    ]
    after: list[set[int]] = [set() for _ in nodes]
    for i, made_by in enumerate(before):
        for j in made_by:
            after[j].add(i)
    quotient = _Quotient(after)
    merged = True
    while merged:
        merged = False
        for i in sorted(taken):
            for j in before[i]:
                if j in taken and quotient.merge(j, i):
                    merged = True
    return quotient.pieces(taken)


class _Quotient:
    """The graph with pieces for nodes; it has no circle, and stays so."""

    def __init__(self, after: Sequence[set[int]]) -> None:
        self._piece = list(range(len(after)))
        self._members = {i: [i] for i in range(len(after))}
        self._after = after

    def merge(self, first: int, second: int) -> bool:
        """Make the pieces of two nodes one, if that makes no circle; the second comes after the first."""
        a, b = self._piece[first], self._piece[second]
        if a == b or self._has_detour(a, b):
            return False
        for i in self._members[b]:
            self._piece[i] = a
        self._members[a] = sorted(self._members[a] + self._members.pop(b))
        return True

    def pieces(self, taken: Collection[int]) -> list[list[int]]:
        """The pieces that `taken` make up."""
        return [m for m in self._members.values() if m[0] in taken]

    def _has_detour(self, a: int, b: int) -> bool:
        """Whether a way leads from piece `a` to piece `b` through another one."""
        last = self._members[b][-1]
        waiting = [p for p in self._next(a) if p not in (a, b)]
        seen = set(waiting)
        while waiting:
            for p in self._next(waiting.pop()):
                if p == b:
                    return True
                # What begins after all of b's nodes cannot lead to one of them.
                if p not in seen and p != a and self._members[p][0] < last:
                    seen.add(p)
                    waiting.append(p)
        return False

    def _next(self, piece: int) -> set[int]:
        return {self._piece[j] for i in self._members[piece] for j in self._after[i]}
