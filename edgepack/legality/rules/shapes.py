"""Free dimensions on devices that compile for one shape."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView, is_static
from edgepack.legality.rules.rule import Rule


@dataclass(frozen=True, kw_only=True)
class StaticShapes(Rule):
    """Free dimensions. The profile's key `static_shapes` switches this rule.

    An input with one is found with the rule's severity; a node whose result's shape depends on values (NonZero, Unique) is a
    warning: the runtime lays it on a provider that can.
    """

    name: ClassVar[str] = "static_shapes"

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for name in graph.inputs:
            free = _free(graph.shape(name))
            if free:
                yield self.found(
                    f"the input {name} has free dimensions: {free}",
                    f"give a size for each ?: --shape {_option(name, graph.shape(name))} (a free batch: --batch N)",
                    tensor=name,
                    value=_text(graph.shape(name)),
                )
        for node in graph.all_nodes:
            known = [graph.shape(n) for n in node.takes]
            free_outputs = [n for n in node.outputs if _free(graph.shape(n))]
            if free_outputs and all(is_static(s) for s in known):
                yield Finding(
                    rule=self.name,
                    severity="warning",
                    cause=f"the shape of its result {free_outputs[0]} depends on values: [{_text(graph.shape(free_outputs[0]))}]",
                    fix="end the model before it (--outputs) and do this part in the app, or accept that another provider runs it",
                    node=node.name,
                    operator=node.operator,
                    tensor=free_outputs[0],
                    value=_text(graph.shape(free_outputs[0])),
                    source=self.source,
                )


def _free(shape: tuple[int | str, ...] | None) -> str:
    if shape is None:
        return "all"
    return ", ".join(f"axis {i} ({d})" for i, d in enumerate(shape) if isinstance(d, str))


def _option(name: str, shape: tuple[int | str, ...] | None) -> str:
    """The sizes as `--shape` takes them, with `?` where one is missing."""
    sizes = "x".join("?" if isinstance(d, str) else str(d) for d in shape or ())
    return shlex.quote(f"{name}={sizes or '…'}")


def _text(shape: tuple[int | str, ...] | None) -> str:
    return "unknown" if shape is None else "x".join(map(str, shape))
