"""Identity nodes only where a graph must have them, so that equal graphs have equal nodes."""

from __future__ import annotations

import onnx
from onnx import helper

from edgepack.topology import subgraphs


def settle_identities(graph: onnx.GraphProto) -> None:
    """Let each reader read a value itself, not a copy, and each output be the value itself, where it can be.

    Of several outputs that are one value the first is the value and the others are copies; an output that is an input, a constant
    or a value from outside is a copy. tf2onnx leaves an arbitrary one of such outputs as the copy, in the bodies of loops above all.
    """
    _settle(graph, {})


def _settle(graph: onnx.GraphProto, outside: dict[str, str]) -> None:
    """`outside`: copies made in the graphs around this one → what they are copies of."""
    sources = dict(outside)
    kept = []
    for node in graph.node:
        if node.op_type == "Identity" and node.domain in ("", "ai.onnx"):
            sources[node.output[0]] = sources.get(node.input[0], node.input[0])
        else:
            kept.append(node)
    for node in kept:
        node.input[:] = [sources.get(n, n) for n in node.input]
        for inner in subgraphs(node):
            _settle(inner, sources)
    _set_outputs(graph, kept, sources)


def _set_outputs(
    graph: onnx.GraphProto, kept: list[onnx.NodeProto], sources: dict[str, str]
) -> None:
    made = {n for node in kept for n in node.output if n}
    renames: dict[str, str] = {}
    copies = []
    for output in graph.output:
        source = sources.get(output.name, output.name)
        if source in made and source not in renames:
            renames[source] = output.name
        else:
            if source == output.name and source not in made:
                output.name = f"{source}/copy"
            copies.append((source, output.name))
    for node in kept:
        node.output[:] = [renames.get(n, n) for n in node.output]
        _rename_reads(node, renames)
    nodes = [_copy(n) for n in kept]
    nodes += [helper.make_node("Identity", [renames.get(s, s)], [name]) for s, name in copies]
    del graph.node[:]
    graph.node.extend(nodes)


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    """A node that no graph owns."""
    fresh = onnx.NodeProto()
    fresh.CopyFrom(node)
    return fresh


def _rename_reads(node: onnx.NodeProto, renames: dict[str, str]) -> None:
    node.input[:] = [renames.get(n, n) for n in node.input]
    for graph in subgraphs(node):
        for inner in graph.node:
            _rename_reads(inner, renames)
        for output in graph.output:
            output.name = renames.get(output.name, output.name)
