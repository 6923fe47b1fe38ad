"""Two transpositions in a row, as one or none."""

from __future__ import annotations

from edgepack.passes.tune.graph import Graph, attribute


def join_transposes(graph: Graph) -> int:
    """Transpose(Transpose(x)) → one Transpose of x, or x itself."""
    done = 0
    for node in graph.nodes("Transpose"):
        before = graph.maker(node.input[0], "Transpose")
        first = before and attribute(before, "perm")
        second = attribute(node, "perm")
        if before is None or not first or not second:
            continue
        order = [first[i] for i in second]
        x, y = before.input[0], node.output[0]
        if order == sorted(order) and graph.is_hidden(y):
            graph.rename(y, x)
            graph.replace([node], [])
        else:
            graph.replace([node], [graph.node("Transpose", [x], y, perm=order)])
        done += 1
    return done
