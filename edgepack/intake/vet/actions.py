"""What a TensorFlow graph does besides computing: files, network, Python, processes; when it is imported, and when it is run."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.intake.vet import operators
from edgepack.intake.vet.walk import (
    Bodies,
    Node,
    bodies,
    calls_of,
    distinct,
    functions,
    place_of,
    refuse,
    source_of,
)

_MORE = "has operators that do more than compute"
_FIX = (
    "a graph is a program: do not load one that you do not trust; otherwise export the model without them "
    "(end it before them with --outputs), or let them act, confined: --trust-model"
)
_FED = ("Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "_Arg")


def vet_actions(
    graph_def: Any,
    path: Path,
    roots: Collection[str] | None = None,
    *,
    fed: Collection[str] = (),
    assets: Collection[str] = (),
) -> None:
    """Nothing, if TensorFlow may run the graph.

    Args:
        graph_def: a GraphDef that `graph.vet_graphdef` let through.
        path: for messages.
        roots: nodes and functions that will be run, with what they need (outputs, initializers; `name` or `name:0`). What they do not
            reach stays asleep: the input pipeline of a training checkpoint, a saver. Without them, the whole graph counts.
        fed: tensors that are fed, so that what makes them stays asleep.
        assets: tensors that hold paths of the model's own assets.

    Raises:
        ModelError: operators that touch files, network, Python or processes; each one with its node.
    """
    refuse(path, _acts(graph_def, roots, fed, {source_of(a) for a in assets}), _MORE, _FIX)


def vet_import(graph: Bodies, path: Path) -> None:
    """Nothing, if importing the graph runs nothing of it but computation.

    TensorFlow works out shapes as it imports, and evaluates what depends on constants alone, unless an operator is registered as stateful.
    ReadFile, MatchingFiles, DatasetFromGraph and Abort are not (TensorFlow 2.21, core/common_runtime/eval_const_tensor.cc).

    Raises:
        ModelError: such an operator, of constants alone.
    """
    refuse(path, _acts_on_import(graph), _MORE, _FIX)


def reached(
    graph_def: Any, roots: Collection[str], fed: Collection[str] = ()
) -> set[tuple[str, str]]:
    """(function, node) of all that running `roots` may run: nodes of the graph itself have the function ``.

    All nodes of a function that is called count: those nothing reads run too if they are stateful.
    """
    return _reached(bodies(graph_def), functions(graph_def), roots, fed)


def _reached(
    graph: Bodies, library: Mapping[str, Any], roots: Collection[str], fed: Collection[str]
) -> set[tuple[str, str]]:
    nodes = {n.name: n for n in graph[""]}
    given = {_tensor(f) for f in fed}
    found: set[tuple[str, str]] = set()
    calls = [r for r in roots if r in library]
    stack = list(roots)
    while stack:
        text = stack.pop()
        name = source_of(text)
        if ("", name) in found or name not in nodes or _tensor(text) in given:
            continue
        found.add(("", name))
        stack.extend(nodes[name].inputs)
        calls.extend(calls_of([nodes[name]], library))
    called: set[str] = set()
    while calls:
        name = calls.pop()
        if name not in called:
            called.add(name)
            found.update((name, n.name) for n in graph[name])
            calls.extend(calls_of(graph[name], library))
    return found


def _tensor(text: str) -> str:
    """`name` → `name:0`; a control input is no tensor."""
    return text if ":" in text or text.startswith("^") else f"{text}:0"


def _acts(
    graph_def: Any, roots: Collection[str] | None, fed: Collection[str], assets: Collection[str]
) -> Iterator[str]:
    graph = bodies(graph_def)
    run = None if roots is None else _reached(graph, functions(graph_def), roots, fed)
    for place, nodes in graph.items():
        suspects = distinct(nodes, operators.may_act)
        constants = {n.name: n for n in nodes if n.op == "Const"} if suspects else {}
        for node in nodes if suspects else ():
            if node.op in suspects and (run is None or (place, node.name) in run):
                does = _does(node, constants, () if place else assets)
                if does is not None:
                    yield f"{node.op} ({does}): {node.name!r}{place_of(place)}"


def _does(node: Node, constants: Mapping[str, Node], assets: Collection[str]) -> str | None:
    if operators.SAVING.fullmatch(node.op) or operators.RESTORING.fullmatch(node.op):
        return "reads or writes files, outside of saving and restoring"
    if operators.TABLES.fullmatch(node.op) and len(node.inputs) > 1:
        file = constants.get(source_of(node.inputs[1]))
        if file is None or file.name in assets:
            return None
        return f"reads the file {list(file.proto.attr['value'].tensor.string_val)!r}, no asset"
    return operators.refusal(node.op, node.proto.attr)


def _acts_on_import(graph: Bodies) -> Iterator[str]:
    for place, nodes in graph.items():
        suspects = distinct(nodes, operators.may_act)
        constant = _constant(nodes) if suspects else set()
        for i in sorted(constant):
            node = nodes[i]
            if node.op in suspects and (does := operators.refusal(node.op, node.proto.attr)):
                yield f"{node.op} ({does}, as soon as it is imported): {node.name!r}{place_of(place)}"


def _constant(nodes: Sequence[Node]) -> set[int]:
    """Nodes that depend on constants alone, through stateless operators; control inputs do not count."""
    from tensorflow.python.framework import op_def_registry

    stateful = distinct(nodes, lambda op: _is_stateful(op_def_registry.get(op)))
    index = {n.name: i for i, n in enumerate(nodes)}
    waits = [0] * len(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for text in node.inputs:
            if not text.startswith("^"):
                waits[i] += 1
                source = index.get(source_of(text))
                if source is not None:
                    readers[source].append(i)
    ready = deque(i for i, n in enumerate(waits) if not n)
    constant: set[int] = set()
    while ready:
        i = ready.popleft()
        if nodes[i].op in stateful or nodes[i].op in _FED:
            continue
        constant.add(i)
        for reader in readers[i]:
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    return constant


def _is_stateful(definition: Any) -> bool:
    return definition is not None and bool(definition.is_stateful)
