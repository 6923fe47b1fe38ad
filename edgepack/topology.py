"""Nodes in an order in which each comes after those it takes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

_UNSEEN, _OPEN, _DONE = range(3)


def in_order(nodes: Sequence[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """The nodes in topological order; those that stand in one already keep it.

    Raises:
        ValueError: they go in a circle; names a node in it.
    """
    maker = {name: i for i, node in enumerate(nodes) for name in node.output if name}
    before = [{maker[n] for n in taken(node) if n in maker} - {i} for i, node in enumerate(nodes)]
    state = [_UNSEEN] * len(nodes)
    order: list[onnx.NodeProto] = []
    for first in range(len(nodes)):
        waiting = [first]
        while waiting:
            i = waiting[-1]
            missing = sorted(j for j in before[i] if state[j] != _DONE)
            if state[i] == _UNSEEN and missing:
                if any(state[j] == _OPEN for j in missing):
                    raise ValueError(f"node {nodes[i].name!r} ({nodes[i].op_type}) needs itself")
                state[i] = _OPEN
                waiting.extend(reversed(missing))
                continue
            waiting.pop()
            if state[i] != _DONE:
                state[i] = _DONE
                order.append(nodes[i])
    return order


def taken(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node takes: its inputs, and what its subgraphs take from outside (and what they have inside, which may share a name)."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from taken(inner)
            yield from (v.name for v in graph.output)
