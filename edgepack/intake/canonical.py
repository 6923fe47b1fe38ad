"""Make a converted graph fit to ship: the user's names at the edges, the same names in every run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import numpy as np
import onnx

from edgepack.artifact import TensorSpec
from edgepack.intake.identities import settle_identities
from edgepack.topology import subgraphs, taken

#: Free dimensions tf2onnx and others could not name.
_NAMELESS = re.compile(r"(unk__\d+|\?|)")


def name_free_dims(model: onnx.ModelProto) -> None:
    """Give each nameless free dimension a name: `batch` for the first axis, `<tensor>_dim<axis>` for others."""
    initializers = {i.name for i in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in initializers or not value.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")  # some exporters write −1 for a free size
            if not dim.HasField("dim_value") and _NAMELESS.fullmatch(dim.dim_param):
                dim.dim_param = "batch" if axis == 0 else f"{value.name}_dim{axis}"


def set_edges(
    model: onnx.ModelProto,
    inputs: Sequence[tuple[str, TensorSpec]],
    outputs: Sequence[tuple[str, TensorSpec]],
) -> None:
    """Make the model's edges the given ones: each a value's present name and what it shall be called and look like.

    An input that the converter dropped since nothing needs it comes back; a value that is two outputs, or an input and an output,
    gets a node for each.
    """
    graph = model.graph
    _set_values(graph.input, inputs)
    _set_values(graph.output, outputs)
    renames = {name: spec.name for name, spec in inputs}
    taken = set(renames)
    for value, (name, spec) in zip(graph.output, outputs, strict=True):
        if name in taken:
            graph.node.append(onnx.helper.make_node("Identity", [name], [f"{spec.name}/copy"]))
            value.name = f"{spec.name}/copy"
            name = value.name
        taken.add(name)
        renames[name] = spec.name
    edges = set(renames.values())
    inner = {n for n in _value_names(graph) if n in edges and n not in renames}
    renames.update({n: f"{n}/inner" for n in inner})
    _rename(graph, renames)


def _set_values(values: Any, edges: Sequence[tuple[str, TensorSpec]]) -> None:
    del values[:]
    for name, spec in edges:
        dtype = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
        values.append(onnx.helper.make_tensor_value_info(name, dtype, list(spec.shape)))


def drop_unneeded(model: onnx.ModelProto) -> None:
    """Leave only the nodes that outputs need, here and in subgraphs, each after what it reads."""
    _order(model.graph)


def number_names(model: onnx.ModelProto, weights: Collection[str] = ()) -> dict[str, str]:
    """The new name of each value that got one. Orders nodes as the outputs need them, and name nodes and inner values by that place: `Conv_3`, `Conv_3:0`, `Conv_3.1`.

    tf2onnx numbers its names by a counter and keeps an arbitrary one of two equal nodes, so that its names (and with them the
    bytes) differ from run to run (tensorflow-onnx#1789). Nodes no output needs are dropped.

    Args:
        weights: values that will be initializers, and are not in the model yet.
    """
    graph = model.graph
    settle_identities(graph)
    _order(graph)
    edges = {v.name for v in (*graph.input, *graph.output)}
    renames = _numbered(graph, edges, "", Counter(), weights)
    _rename(graph, renames)
    _sort_constants(graph)
    return renames


def _sort_constants(graph: onnx.GraphProto) -> None:
    """Initializers by name, here and in subgraphs, those nothing uses dropped; in place, as they may be most of the memory."""
    used = {name for node in graph.node for name in taken(node)}
    used |= {v.name for v in (*graph.input, *graph.output)}
    for place in reversed(range(len(graph.initializer))):
        if graph.initializer[place].name not in used:
            del graph.initializer[place]
    graph.initializer.sort(key=lambda i: i.name)
    for node in graph.node:
        for inner in subgraphs(node):
            _sort_constants(inner)


def _order(graph: onnx.GraphProto) -> None:
    """Keep the needed nodes in canonical order, here and in subgraphs."""
    ordered = _needed(graph)
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]
    for node in graph.node:
        for inner in subgraphs(node):
            _order(inner)


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Copies of the nodes the outputs need: each after what it reads, inputs first to last."""
    producers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    done: set[int] = set()
    ordered: list[onnx.NodeProto] = []
    stack = [(v.name, False) for v in reversed(graph.output)]
    while stack:
        name, read = stack.pop()
        place = producers.get(name)
        if place is None or place in done:
            continue
        if read:
            done.add(place)
            copy = onnx.NodeProto()
            copy.CopyFrom(graph.node[place])
            ordered.append(copy)
        else:
            stack.append((name, True))
            stack.extend((n, False) for n in reversed([*taken(graph.node[place])]))
    return ordered


def _numbered(
    graph: onnx.GraphProto,
    kept: set[str],
    prefix: str,
    counts: Counter[str],
    weights: Collection[str],
) -> dict[str, str]:
    """Names nodes in place; gives the new name of every value that is not in `kept`."""
    renames: dict[str, str] = {}

    def name(value: str, place: str) -> None:
        if value and value not in kept:
            renames.setdefault(value, place)

    initializers = {i.name for i in graph.initializer} | set(weights)
    for node in graph.node:
        node.name = f"{prefix}{node.op_type}_{counts[node.op_type]}"
        counts[node.op_type] += 1
        for i, value in enumerate(node.input):
            if value in initializers:
                name(value, f"{node.name}.{i}")
        for k, inner in enumerate(subgraphs(node)):
            inner.name = f"{node.name}/{k}"
            for v in (*inner.input, *inner.output):
                for dim in v.type.tensor_type.shape.dim:
                    if _NAMELESS.fullmatch(dim.dim_param):
                        dim.ClearField("dim_param")
            for i, v in enumerate(inner.input):
                name(v.name, f"{node.name}/{k}/input{i}")
            renames |= _numbered(inner, kept | set(renames), f"{node.name}/{k}/", Counter(), ())
            for i, value in enumerate(n for n in taken(node) if n in initializers):
                name(value, f"{node.name}/{k}.{i}")
        for i, value in enumerate(node.output):
            name(value, f"{node.name}:{i}")
        attributes = sorted(node.attribute, key=lambda a: a.name)
        del node.attribute[:]
        node.attribute.extend(attributes)
    for initializer in graph.initializer:
        if prefix:
            name(initializer.name, f"{prefix}constant{len(renames)}")
    return renames


def _value_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Values made in a graph and in its subgraphs, whose inputs too are made there."""
    for initializer in graph.initializer:
        yield initializer.name
    for node in graph.node:
        yield from node.output
        for inner in subgraphs(node):
            yield from (v.name for v in inner.input)
            yield from _value_names(inner)


def _rename(graph: onnx.GraphProto, renames: dict[str, str]) -> None:
    """Rename values here and in subgraphs, which see the values around them."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = renames.get(value.name, value.name)
    for initializer in graph.initializer:
        initializer.name = renames.get(initializer.name, initializer.name)
    for node in graph.node:
        node.input[:] = [renames.get(n, n) for n in node.input]
        node.output[:] = [renames.get(n, n) for n in node.output]
        for inner in subgraphs(node):
            _rename(inner, renames)
