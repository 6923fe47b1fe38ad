"""A TensorFlow graph that may be imported: well formed, of known operators, of bounded size, and importing it runs none of it.

Every pass is linear in the number of nodes and inputs. The child's: the registry of operators is TensorFlow's.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError
from edgepack.intake.vet import walk
from edgepack.intake.vet.actions import vet_import
from edgepack.intake.vet.walk import Bodies, Node, calls_of, place_of, refuse, source_of

#: Functions count each time they are called. BERT-large has 20 000 nodes, the largest unrolled recurrent nets some 100 000.
NODES = 500_000
#: A constant may repeat its last value (tf.zeros); no model repeats it for a gigabyte.
_RATIO, _FREE_BYTES = 1000, 256 << 20
_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))


def vet_graphdef(graph_def: Any, path: Path, *, trusted: bool = False) -> None:
    """Nothing, if TensorFlow may import the graph; what may be run of it, `actions.vet_actions` says.

    Args:
        graph_def: a parsed GraphDef.
        path: for messages.
        trusted: what its operators do does not matter, only their form.

    Raises:
        ModelError: it is too large, malformed, has unknown operators, constants that would fill the memory, or operators that act as soon
            as it is imported.
    """
    _check_size(
        path, len(graph_def.node) + sum(len(f.node_def) for f in graph_def.library.function)
    )
    # Of two functions of one name, one would go unseen.
    names = Counter(f.signature.name for f in graph_def.library.function)
    twice = (f"the function {n}" for n, count in names.items() if count > 1)
    refuse(path, twice, "defines twice", "export it again")
    library, bodies = walk.functions(graph_def), walk.bodies(graph_def)
    _check_inlined(path, bodies, library)
    refuse(path, _form_faults(bodies, library), "is no valid graph", "freeze or export it again")
    refuse(
        path,
        _const_faults(bodies),
        "has constants that do not fit their shapes",
        "freeze or export it again; if it comes from somebody else, do not load it",
    )
    refuse(
        path,
        _unknown(bodies, library),
        "has operators that this TensorFlow does not know",
        "load their library in an --op-handler module, or freeze only the part before them",
    )
    if not trusted:
        vet_import(bodies, path)


def _check_size(path: Path, count: int, where: str = "") -> None:
    if count > NODES:
        raise ModelError(
            f"{path} has {count} nodes{where}, more than {NODES}",
            "freeze it without its training part; larger graphs cannot be converted",
        )


def _check_inlined(path: Path, bodies: Bodies, library: Mapping[str, Any]) -> None:
    """Counts nodes as if every function were inlined; functions may not call themselves.

    Thirty functions that each call the next one twice are a billion nodes.
    """
    calls = {name: Counter(calls_of(nodes, library)) for name, nodes in bodies.items()}
    whole: dict[str, int] = {}
    for name in _callees_first(calls, path):
        whole[name] = len(bodies[name]) + sum(whole[f] * n for f, n in calls[name].items())
        _check_size(path, whole[name], f" once its functions are inlined{place_of(name)}")


def _callees_first(calls: Mapping[str, Mapping[str, int]], path: Path) -> list[str]:
    order: list[str] = []
    state: dict[str, int] = {}
    for start in calls:
        stack = [(start, iter(calls[start]))] if start not in state else []
        state.setdefault(start, 1)
        while stack:
            name, rest = stack[-1]
            callee = next(rest, None)
            if callee is None:
                state[name] = 2
                order.append(name)
                stack.pop()
            elif callee not in state:
                state[callee] = 1
                stack.append((callee, iter(calls[callee])))
            elif state[callee] == 1:
                raise ModelError(
                    f"{path}: the function {callee} calls itself (through {name})",
                    "ONNX has no recursion: rewrite it as a loop",
                )
    return order


def _form_faults(bodies: Bodies, library: Mapping[str, Any]) -> Iterator[str]:
    for place, nodes in bodies.items():
        known = Counter(n.name for n in nodes)
        arguments = {a.name for a in library[place].signature.input_arg} if place else set()
        where = place_of(place)
        for name, count in known.items():
            if count > 1:
                yield f"the name {name!r} is there {count} times{where}"
            if not name:
                yield f"a node has no name{where}"
        for node in nodes:
            for text in node.inputs:
                source = source_of(text)
                if source not in known and source not in arguments:
                    yield f"{node.name!r}{where} reads {text!r}, which is not there"
        if cycle := _cycle(nodes):
            yield f"{', '.join(cycle[:5])} read each other in a circle{where}"


def _cycle(nodes: Sequence[Node]) -> list[str]:
    """Nodes of a circle other than through NextIteration → Merge, which is how v1 while loops go round."""
    index = {n.name: i for i, n in enumerate(nodes)}
    waits = [0] * len(nodes)
    readers: list[list[int]] = [[] for _ in nodes]
    for i, node in enumerate(nodes):
        for text in node.inputs:
            source = index.get(source_of(text))
            if source is not None and not _goes_round(nodes[source], node):
                readers[source].append(i)
                waits[i] += 1
    ready = deque(i for i, n in enumerate(waits) if not n)
    done = 0
    while ready:
        done += 1
        for reader in readers[ready.popleft()]:
            waits[reader] -= 1
            if not waits[reader]:
                ready.append(reader)
    return [] if done == len(nodes) else _on_circle(nodes, index, waits)


def _goes_round(source: Node, node: Node) -> bool:
    return source.op.endswith("NextIteration") and node.op.endswith("Merge")


def _on_circle(nodes: Sequence[Node], index: Mapping[str, int], waits: Sequence[int]) -> list[str]:
    """Walks back from a waiting node through waiting ones until one comes again."""
    at = next(i for i, n in enumerate(waits) if n)
    path: dict[int, None] = {}
    while at not in path:
        path[at] = None
        sources = (index.get(source_of(t)) for t in nodes[at].inputs)
        at = next(
            s
            for s in sources
            if s is not None and waits[s] and not _goes_round(nodes[s], nodes[at])
        )
    walked = list(path)
    return [nodes[i].name for i in walked[walked.index(at) :]]


def _const_faults(bodies: Bodies) -> Iterator[str]:
    """Constants whose shape promises far more than they hold: TensorFlow would fill the memory with the last value."""
    from tensorflow.python.framework import dtypes

    total = held = 0
    for place, nodes in bodies.items():
        for node in nodes:
            if node.op != "Const" or "value" not in node.proto.attr:
                continue
            value = node.proto.attr["value"].tensor
            where = f"{node.name!r}" + place_of(place)
            dims = [d.size for d in value.tensor_shape.dim]
            try:
                size = dtypes.as_dtype(value.dtype).size or 1
            except TypeError:
                yield f"{where} is of no type ({value.dtype})"
                continue
            if value.tensor_shape.unknown_rank or any(d < 0 for d in dims):
                yield f"{where} has the shape {dims}"
                continue
            declared, content = math.prod(dims) * size, value.ByteSize()
            total, held = total + declared, held + content
            if declared > max(_FREE_BYTES, _RATIO * content):
                yield f"{where} declares {declared} bytes (shape {dims}) and holds {content}"
            elif _is_misfit(value, declared):
                yield f"{where} holds {len(value.tensor_content)} bytes, its shape {dims} takes {declared}"
    if total > max(4 * _FREE_BYTES, _RATIO * held):
        yield f"its constants declare {total} bytes and hold {held}"


def _is_misfit(value: Any, declared: int) -> bool:
    """Whether packed content has another length than the shape; strings and half-byte types have their own packing."""
    from tensorflow.python.framework import dtypes

    kind = dtypes.as_dtype(value.dtype)
    plain = kind.is_floating or kind.is_complex or kind.is_bool or kind.name in _INTEGERS
    return bool(value.tensor_content) and plain and len(value.tensor_content) != declared


def _unknown(bodies: Bodies, library: Mapping[str, Any]) -> Iterator[str]:
    from tensorflow.python.framework import op_def_registry

    counts: Counter[str] = Counter()
    first: dict[str, str] = {}
    for nodes in bodies.values():
        for node in nodes:
            counts[node.op] += 1
            first.setdefault(node.op, node.name)
    for op, count in sorted(counts.items()):
        if op not in library and op_def_registry.get(op) is None:
            yield f"{op} ×{count} (first: {first[op]})"
