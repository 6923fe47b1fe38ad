"""Part of an ONNX graph, between values the user names."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepack.errors import ModelError, UsageError
from edgepack.topology import taken

_AGAIN = "name them as they are in the file"


def cut(model: onnx.ModelProto, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.ModelProto:
    """The model from `inputs` to `outputs`; an empty list leaves that end as it is.

    Args:
        inputs: names of values; `name=value` makes one a constant.

    Raises:
        UsageError: there is no such value, or the constant is none of its type.
        ModelError: the outputs need an input that `inputs` leave out, or a value's type is not known.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    graph = inferred.graph
    known = {v.name: v for v in (*graph.value_info, *graph.output, *graph.input)}
    made = {n for node in graph.node for n in node.output if n}
    constants = {i.name for i in graph.initializer}
    ends = list(outputs) or [o.name for o in graph.output]
    begin = [text.partition("=") for text in inputs] or [
        (v.name, "", "") for v in graph.input if v.name not in constants
    ]
    for name in (*ends, *(n for n, _, _ in begin)):
        if name not in made and name not in known:
            near = ", ".join(difflib.get_close_matches(name, sorted(made | set(known)), n=3))
            raise UsageError(
                f"the graph has no value {name!r}", f"near it: {near}" if near else _AGAIN
            )
    fixed = {n: _constant(n, text, known) for n, separator, text in begin if separator}
    free = [_typed(n, known) for n, separator, _ in begin if not separator]
    _refuse_missing(graph, ends, {*fixed, *(v.name for v in free), *constants})
    kept = onnx.ModelProto()
    kept.CopyFrom(model)
    begun = {*fixed, *(v.name for v in free)}
    for node in kept.graph.node:
        # What is fed is not made as well.
        node.output[:] = ["" if n in begun else n for n in node.output]
    for field in (kept.graph.input, kept.graph.output):
        del field[:]
    kept.graph.input.extend(free)
    kept.graph.output.extend(_typed(n, known) for n in ends)
    kept.graph.initializer.extend(fixed.values())
    _drop_unneeded(kept.graph)
    return kept


def _typed(name: str, known: Mapping[str, onnx.ValueInfoProto]) -> onnx.ValueInfoProto:
    if name not in known or not known[name].type.tensor_type.elem_type:
        raise ModelError(
            f"the type of {name} cannot be told from the graph", "cut at a value next to it"
        )
    return known[name]


def _constant(name: str, text: str, known: Mapping[str, onnx.ValueInfoProto]) -> onnx.TensorProto:
    dtype = helper.tensor_dtype_to_np_dtype(_typed(name, known).type.tensor_type.elem_type)
    try:
        value = json.loads(text.lower() if text in ("True", "False") else text)
        return numpy_helper.from_array(np.asarray(value, dtype=dtype), name)
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"--inputs {name}={text}: {text!r} is no {dtype}",
            f"write a number, true, false or a JSON array: {name}=0",
        ) from error


def _refuse_missing(graph: onnx.GraphProto, ends: Sequence[str], given: set[str]) -> None:
    needed = _needed(graph, ends, given)
    missing = [v.name for v in graph.input if v.name in needed and v.name not in given]
    if missing:
        raise ModelError(
            f"the outputs need inputs that --inputs does not name: {', '.join(missing)}",
            f"add them, or fix them to a value: --inputs {missing[0]}=VALUE",
        )


def _needed(graph: onnx.GraphProto, ends: Sequence[str], given: set[str]) -> set[str]:
    """Names of values that `ends` depend on, not looking behind `given`."""
    makers = {n: node for node in graph.node for n in node.output if n}
    needed: set[str] = set()
    todo = list(ends)
    while todo:
        name = todo.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in makers and name not in given:
            todo.extend(taken(makers[name]))
    return needed


def _drop_unneeded(graph: onnx.GraphProto) -> None:
    needed = _needed(graph, [o.name for o in graph.output], {v.name for v in graph.input})
    nodes = []
    for node in graph.node:
        if needed & set(node.output):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            nodes.append(copy)
    del graph.node[:]
    graph.node.extend(nodes)
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in needed:
            del graph.initializer[place]
    del graph.value_info[:]
