"""What a rule is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from edgepack.legality.finding import Finding, Severity
from edgepack.legality.graph import GraphView, Node


@dataclass(frozen=True, kw_only=True)
class Rule(ABC):
    """Something a device does not take, with who says so.

    Attributes:
        name: its key in a profile.
        source: who says that the device does not take it; shown with every finding.
        severity: of its findings.
        precisions: those it holds for; empty for all.
    """

    name: ClassVar[str]

    source: str = ""
    severity: Severity = "error"
    precisions: tuple[str, ...] = ()

    @abstractmethod
    def findings(self, graph: GraphView) -> Iterator[Finding]:
        """What in `graph` breaks the rule, in the graph's order."""

    def found(
        self,
        cause: str,
        fix: str,
        *,
        node: Node | None = None,
        tensor: str = "",
        value: object = "",
    ) -> Finding:
        """A finding of this rule."""
        return Finding(
            rule=self.name,
            severity=self.severity,
            cause=cause,
            fix=fix,
            node="" if node is None else node.name,
            operator="" if node is None else node.operator,
            tensor=tensor,
            value=str(value),
            source=self.source,
        )


def and_more(names: list[str], shown: int = 3) -> str:
    """The first few names, and how many more."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")
