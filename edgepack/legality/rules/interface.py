"""What a model takes and gives, where the runtime's API for the device's language has no way to say it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView
from edgepack.legality.rules.rule import Rule


@dataclass(frozen=True, kw_only=True)
class InterfaceTypes(Rule):
    """Inputs and outputs of element types that the runtime's API does not make.

    Attributes:
        lacking: those types.
    """

    name: ClassVar[str] = "interface_types"

    lacking: tuple[str, ...]

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for kind, names in (("input", graph.inputs), ("output", graph.outputs)):
            for name in names:
                dtype = graph.dtype(name)
                if dtype in self.lacking:
                    yield self.found(
                        f"the {kind} {name!r} is {dtype}, which the device's API for the runtime does not have",
                        "cast it in the model: to int32, or to int64 for uint32 and uint64",
                        tensor=name,
                        value=dtype,
                    )


@dataclass(frozen=True, kw_only=True)
class InterfaceNames(Rule):
    """Inputs and outputs whose names the runtime's API does not hand on as they are: those with characters beyond U+FFFF."""

    name: ClassVar[str] = "interface_names"

    def findings(self, graph: GraphView) -> Iterator[Finding]:
        for kind, names in (("input", graph.inputs), ("output", graph.outputs)):
            for name in names:
                odd = [c for c in name if ord(c) > 0xFFFF]
                if odd:
                    yield self.found(
                        f"the {kind} {name!r} has the character {odd[0]} (U+{ord(odd[0]):X}); "
                        "the device's API for the runtime finds no such name",
                        "rename it in the model, to characters up to U+FFFF",
                        tensor=name,
                        value=odd[0],
                    )
