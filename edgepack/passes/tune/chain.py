"""New nodes one after another, as a rewrite puts them in the place of others."""

from __future__ import annotations

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph


class Chain:
    """Nodes that lead to one value, after which all that they make is named."""

    def __init__(self, graph: Graph, y: str) -> None:
        self._graph, self._y = graph, y
        self._nodes: list[onnx.NodeProto] = []

    def add(self, kind: str, hint: str, inputs: list[str], **attributes: object) -> str:
        """The output of a new node."""
        output = self._graph.fresh(f"{self._y}/{hint}")
        self._nodes.append(self._graph.node(kind, inputs, output, **attributes))
        return output

    def clamp(self, like: onnx.NodeProto, x: str) -> str:
        """What a copy of a clamp makes of x."""
        output = self._graph.fresh(f"{self._y}/clamped")
        node = onnx.NodeProto()
        node.CopyFrom(like)
        node.input[0], node.name, node.output[0] = x, output, output
        self._nodes.append(node)
        return output

    def constant(self, values: Array, hint: str) -> str:
        """The name of a new constant."""
        return self._graph.constant(values, f"{self._y}/{hint}")

    def integers(self, hint: str, *values: int) -> str:
        """The name of a new constant, int64 [values]."""
        return self.constant(np.array(values, np.int64), hint)

    def shaped(self, x: str, hint: str, *sizes: int) -> str:
        """x in another shape."""
        return self.add("Reshape", hint, [x, self.integers("sizes", *sizes)])

    def end(self, x: str) -> list[onnx.NodeProto]:
        """All nodes; x, which the last one makes, bears the name of the value they lead to."""
        last = self._nodes[-1]
        assert last.output[0] == x
        last.name = last.output[0] = self._y
        return self._nodes
