"""Which operators may stand in a graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import onnx

from edgepack.legality.finding import Finding, Severity
from edgepack.legality.graph import GraphView, Node
from edgepack.legality.rules.rule import Rule, and_more
from edgepack.onnxfile import KNOWN_DOMAINS, ONNX_DOMAINS


@dataclass(frozen=True, kw_only=True)
class KnownOperators(Rule):
    """Operators that the device's runtime does not know at all, whichever provider it has.

    Attributes:
        domains: the operator sets it knows.
    """

    name: ClassVar[str] = "known_operators"

    domains: tuple[str, ...] = KNOWN_DOMAINS

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for operator, nodes in by_operator(graph.all_nodes).items():
            proto = nodes[0].proto
            if proto.domain not in self.domains:
                said = f"the operator set {proto.domain!r} is none the device's runtime has"
            elif proto.domain in ONNX_DOMAINS and not onnx.defs.has(proto.op_type, graph.opset, ""):
                said = f"ONNX's operator set {graph.opset} has no {operator}"
            else:
                continue
            yield self.found(
                f"{said} ({and_more([n.name for n in nodes])})",
                "rewrite it with standard operators, or end the model before it (--outputs)",
                node=nodes[0],
                value=proto.domain or operator,
            )


@dataclass(frozen=True, kw_only=True)
class ForbiddenOperators(Rule):
    """Operators that the device refuses, or computes wrong.

    Attributes:
        operators: why not, by type (with its domain, where that is not ONNX's own).
    """

    name: ClassVar[str] = "forbidden_operators"

    operators: Mapping[str, str] = field(default_factory=dict)

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for operator, nodes in by_operator(graph.all_nodes).items():
            if operator in self.operators:
                yield self.found(
                    f"{self.operators[operator]} ({and_more([n.name for n in nodes])})",
                    "give the float model it was made from, and let edgepack quantize it for this target",
                    node=nodes[0],
                    tensor=nodes[0].outputs[0] if nodes[0].outputs else "",
                )


@dataclass(frozen=True, kw_only=True)
class DiscouragedOperators(ForbiddenOperators):
    """Operators that run, but badly."""

    name: ClassVar[str] = "discouraged_operators"

    severity: Severity = "warning"


@dataclass(frozen=True, kw_only=True)
class ProviderOperators(Rule):
    """Operators that a provider leaves to the next one: each is a cut through the graph, and a copy there and back.

    Attributes:
        tables: the operator tables (files in targets/providers, without suffix) that the graph is held against.
    """

    name: ClassVar[str] = "provider_operators"

    severity: Severity = "warning"
    tables: tuple[str, ...] = ()

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        from edgepack.legality.support import left_by
        from edgepack.legality.tables import load_table

        for name in self.tables:
            table = load_table(name)
            for left in left_by(table, graph):
                names = and_more([n.name for n in left.nodes])
                yield Finding(
                    rule=self.name,
                    severity=self.severity,
                    cause=f"{table.title} leaves {left.operator} ×{len(left.nodes)} to the next provider: {left.why} ({names})",
                    fix="rewrite it with operators the provider takes, or accept the copies (edgepack check shows the partitions)",
                    node=left.nodes[0].name,
                    operator=left.operator,
                    tensor=left.tensor,
                    value=left.value,
                    source=self.source or table.source,
                )


def by_operator(nodes: tuple[Node, ...]) -> dict[str, list[Node]]:
    """Nodes by operator type, in the order of each type's first."""
    found: dict[str, list[Node]] = {}
    for node in nodes:
        found.setdefault(node.operator, []).append(node)
    return found
