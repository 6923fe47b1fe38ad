"""Element types that a device has no arithmetic for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView
from edgepack.legality.rules.operators import by_operator
from edgepack.legality.rules.rule import Rule, and_more


@dataclass(frozen=True, kw_only=True)
class Float16Arithmetic(Rule):
    """Operators that compute in float16 on a device whose kernels are float32: a cast before and after each.

    Casts themselves, and what moves values without computing, are no arithmetic.

    Attributes:
        moving: operators that only move values.
    """

    name: ClassVar[str] = "float16_arithmetic"

    moving: tuple[str, ...] = (
        "Cast",
        "Concat",
        "DequantizeLinear",
        "Flatten",
        "Gather",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    )

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for operator, nodes in by_operator(graph.all_nodes).items():
            half = [n for n in nodes if any(graph.dtype(name) == "float16" for name in n.outputs)]
            if half and operator not in self.moving:
                yield self.found(
                    f"it computes in float16, which the device does not ({and_more([n.name for n in half])})",
                    "use --precision fp32, or keep float16 for a smaller download and accept the casts",
                    node=half[0],
                    tensor=half[0].outputs[0],
                    value="float16",
                )
