"""How the checks of TensorFlow graphs get about: bodies, inputs, calls, and one error for all that a check finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from edgepack.errors import ModelError

_SHOWN, _MOST = 10, 1000


def refuse(path: Path, faults: Iterator[str], what: str, fix: str) -> None:
    """Raises ModelError, with the first of the faults, if there are any."""
    found = list(islice(faults, _MOST))
    if found:
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ModelError(f"{path} {what}: {'; '.join(found[:_SHOWN])}{more}", fix)


def functions(graph_def: Any) -> dict[str, Any]:
    """FunctionDefs by name."""
    return {f.signature.name: f for f in graph_def.library.function}


class Node(NamedTuple):
    """A NodeDef, its fields read once: protobuf takes a microsecond for each."""

    name: str
    op: str
    inputs: tuple[str, ...]
    proto: Any


#: Nodes by function; those of the graph itself under ``.
Bodies = Mapping[str, Sequence[Node]]


def bodies(graph_def: Any) -> dict[str, list[Node]]:
    """Nodes by function; those of the graph itself under ``."""
    protos = {"": graph_def.node} | {n: f.node_def for n, f in functions(graph_def).items()}
    return {
        place: [Node(n.name, n.op, tuple(n.input), n) for n in nodes]
        for place, nodes in protos.items()
    }


def distinct(nodes: Sequence[Node], concerns: Callable[[str], bool]) -> set[str]:
    """Operators among the nodes that `concerns` is about."""
    return {op for op in {n.op for n in nodes} if concerns(op)}


def source_of(text: str) -> str:
    """The node that an input names: `name:0`, `name:out:0`, `^name` → `name`."""
    return text.removeprefix("^").partition(":")[0]


def calls_of(nodes: Sequence[Node], library: Mapping[str, Any]) -> Iterator[str]:
    """Functions that nodes call, as often as they do: by an operator's name, or as attributes."""
    for node in nodes if library else ():
        if node.op in library:
            yield node.op
        for value in node.proto.attr.values():
            kind = value.WhichOneof("value")
            if kind == "func" and value.func.name in library:
                yield value.func.name
            elif kind == "list":
                yield from (f.name for f in value.list.func if f.name in library)


def place_of(function: str) -> str:
    """For messages: where a node is."""
    return f" in function {function}" if function else ""
