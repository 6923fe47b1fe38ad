"""What a rule found: where, what, why it matters, and the way out."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: "error": the device refuses it, or answers wrong. "warning": it runs, but not as one would wish, or not everywhere.
Severity = Literal["error", "warning"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing in a graph that a target does not take.

    Attributes:
        rule: the rule's key in the profile.
        cause: one sentence that names what was found.
        fix: what the user does next.
        node, operator: where; empty for what concerns the whole model.
        tensor, value: the tensor it is about and what it is, where there is one.
        source: who says that the device does not take it.
    """

    rule: str
    severity: Severity
    cause: str
    fix: str
    node: str = ""
    operator: str = ""
    tensor: str = ""
    value: str = ""
    source: str = ""

    def __str__(self) -> str:
        place = f"{self.operator} {self.node}: " if self.node else ""
        return f"{self.rule}: {place}{self.cause}"

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)
