"""Through an ONNX graph and the graphs inside it: all nodes, what each takes, and an order in which each comes after those it takes from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import onnx

_UNSEEN, _OPEN, _DONE = range(3)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes: branches and bodies."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def all_nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, each before those of its subgraphs."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from all_nodes(inner)


def taken(node: onnx.NodeProto) -> Iterator[str]:
    """Names a node takes, each as often as it does: its inputs, then what its subgraphs take or pass on from outside."""
    yield from (name for name in node.input if name)
    for graph in subgraphs(node):
        own = {v.name for v in graph.input} | {i.name for i in graph.initializer}
        own |= {s.values.name for s in graph.sparse_initializer}
        own |= {name for inner in graph.node for name in inner.output}
        yield from (name for inner in graph.node for name in taken(inner) if name not in own)
        yield from (v.name for v in graph.output if v.name not in own)


def constants(nodes: Iterable[onnx.NodeProto], given: Iterable[str]) -> set[str]:
    """The names `given`, and those of what nodes, in an order in which they can run, compute of these alone; nothing random."""
    known = set(given)
    for node in nodes:
        random = node.op_type.startswith(("Random", "Multinomial", "Bernoulli"))
        if not random and known.issuperset(taken(node)):
            known.update(name for name in node.output if name)
    return known


def value_names(graph: onnx.GraphProto) -> set[str]:
    """The names of all values, in subgraphs too."""
    graphs = [graph, *(inner for node in all_nodes(graph) for inner in subgraphs(node))]
    found = {name for g in graphs for node in g.node for name in (*node.input, *node.output)}
    return found | {v.name for g in graphs for v in (*g.initializer, *g.input, *g.output)}


def fresh(wish: str, names: set[str]) -> str:
    """A name that is not in `names`, the same in every run: `wish`, or that with a number. It is in `names` from then on."""
    name, count = wish, 0
    while name in names:
        count += 1
        name = f"{wish}_{count}"
    names.add(name)
    return name


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
