"""Through an ONNX graph and the graphs inside it."""

from __future__ import annotations

from collections.abc import Iterator

import onnx


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The graphs in a node's attributes: branches and bodies."""
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, each before those of its subgraphs."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from nodes(inner)


def reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its subgraphs read or pass on from outside too."""
    names = [n for n in node.input if n]
    for graph in subgraphs(node):
        names += [n for inner in graph.node for n in reads(inner)]
        names += [v.name for v in graph.output]
    return names
