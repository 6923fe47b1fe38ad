"""Make a converted graph fit to ship: no foreign operators, the user's names at the edges, the same names in every run."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepack import onnxfile
from edgepack.artifact import TensorSpec
from edgepack.errors import ModelError

#: Free dimensions tf2onnx and others could not name.
_NAMELESS = re.compile(r"(unk__\d+|\?|)")


def refuse_leftovers(model: onnx.ModelProto) -> None:
    """Raises ModelError: operators that no edge runtime knows stand in the graph; every one is listed with its count.

    tf2onnx converts with `continue_on_error`, so it leaves what it does not know in the graph without a word.
    """
    versions = {o.domain: o.version for o in model.opset_import}
    local = {(f.domain, f.name) for f in model.functions}
    foreign: Counter[str] = Counter()
    where: dict[str, str] = {}
    for node in _nodes(model.graph):
        if node.domain in onnxfile.ONNX_DOMAINS:
            known = onnx.defs.has(node.op_type, versions.get(node.domain, 1), "")
        else:
            known = node.domain in onnxfile.KNOWN_DOMAINS
        if not known and (node.domain, node.op_type) not in local:
            name = f"{node.domain}.{node.op_type}".lstrip(".")
            foreign[name] += 1
            where.setdefault(name, node.name or "unnamed")
    if foreign:
        listed = "; ".join(f"{n} ×{c} (first: {where[n]})" for n, c in sorted(foreign.items()))
        raise ModelError(
            f"operators that ONNX does not have are left after conversion: {listed}",
            "rewrite those layers with standard operations, or end the model before them",
        )


def fix_inputs(model: onnx.ModelProto, values: Mapping[str, NDArray[Any]]) -> None:
    """Turn the graph inputs named in `values` into constants.

    tf2onnx makes inputs of constants that a tf.function captures, such as the mean of a Normalization layer.
    """
    kept = [v for v in model.graph.input if v.name not in values]
    for value in model.graph.input:
        if value.name in values:
            constant = np.ascontiguousarray(values[value.name])
            model.graph.initializer.append(numpy_helper.from_array(constant, value.name))
    del model.graph.input[:]
    model.graph.input.extend(kept)


def name_free_dims(model: onnx.ModelProto) -> None:
    """Give each nameless free dimension a name: `batch` for the first axis, `<tensor>_dim<axis>` for others."""
    initializers = {i.name for i in model.graph.initializer}
    for value in (*model.graph.input, *model.graph.output):
        if value.name in initializers or not value.type.HasField("tensor_type"):
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if not dim.HasField("dim_value") and _NAMELESS.fullmatch(dim.dim_param):
                dim.dim_param = "batch" if axis == 0 else f"{value.name}_dim{axis}"


def set_edges(
    model: onnx.ModelProto, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> None:
    """Rename inputs and outputs, by position, and give them the shapes of `inputs` and `outputs`."""
    graph = model.graph
    renames: dict[str, str] = {}
    for value, spec in zip((*graph.input, *graph.output), (*inputs, *outputs), strict=True):
        renames[value.name] = spec.name
        del value.type.tensor_type.shape.dim[:]
        for size in spec.shape:
            dim = value.type.tensor_type.shape.dim.add()
            if isinstance(size, str):
                dim.dim_param = size
            else:
                dim.dim_value = size
    edges = set(renames.values())
    taken = {n for n in _value_names(graph) if n in edges and n not in renames}
    renames.update({n: f"{n}/inner" for n in taken})
    _rename(graph, renames)


def number_names(model: onnx.ModelProto) -> None:
    """Order nodes as the outputs need them, and name nodes and inner values by that place: `Conv_3`, `Conv_3:0`, `Conv_3.1`.

    tf2onnx numbers its names by a counter and keeps an arbitrary one of two equal nodes, so that its names (and with them the
    bytes) differ from run to run (tensorflow-onnx#1789). Nodes no output needs are dropped.
    """
    graph = model.graph
    _order(graph)
    edges = {v.name for v in (*graph.input, *graph.output)}
    _rename(graph, _numbered(graph, edges, "", Counter()))
    used = {name for node in graph.node for name in _reads(node)} | edges
    kept = sorted((i for i in graph.initializer if i.name in used), key=lambda i: i.name)
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _order(graph: onnx.GraphProto) -> None:
    """Keep the needed nodes in canonical order, here and in subgraphs."""
    ordered = _needed(graph)
    del graph.node[:]
    graph.node.extend(ordered)
    del graph.value_info[:]
    for node in graph.node:
        for inner in _subgraphs(node):
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
            stack.extend((n, False) for n in reversed(_reads(graph.node[place])))
    return ordered


def _reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its subgraphs read from outside too."""
    names = [n for n in node.input if n]
    for graph in _subgraphs(node):
        names += [n for inner in graph.node for n in _reads(inner)]
        names += [v.name for v in graph.output]
    return names


def _numbered(
    graph: onnx.GraphProto, kept: set[str], prefix: str, counts: Counter[str]
) -> dict[str, str]:
    """Names nodes in place; gives the new name of every value that is not in `kept`."""
    renames: dict[str, str] = {}

    def name(value: str, place: str) -> None:
        if value and value not in kept:
            renames.setdefault(value, place)

    initializers = {i.name for i in graph.initializer}
    for node in graph.node:
        node.name = f"{prefix}{node.op_type}_{counts[node.op_type]}"
        counts[node.op_type] += 1
        for i, value in enumerate(node.input):
            if value in initializers:
                name(value, f"{node.name}.{i}")
        for k, inner in enumerate(_subgraphs(node)):
            inner.name = f"{node.name}/{k}"
            for v in (*inner.input, *inner.output):
                for dim in v.type.tensor_type.shape.dim:
                    if _NAMELESS.fullmatch(dim.dim_param):
                        dim.ClearField("dim_param")
            for i, v in enumerate(inner.input):
                name(v.name, f"{node.name}/{k}/input{i}")
            renames |= _numbered(inner, kept | set(renames), f"{node.name}/{k}/", Counter())
            for i, value in enumerate(n for n in _reads(node) if n in initializers):
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


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for inner in _subgraphs(node):
            yield from _nodes(inner)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _value_names(graph: onnx.GraphProto) -> Iterator[str]:
    """Values made in a graph and in its subgraphs, whose inputs too are made there."""
    for initializer in graph.initializer:
        yield initializer.name
    for node in graph.node:
        yield from node.output
        for inner in _subgraphs(node):
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
        for inner in _subgraphs(node):
            _rename(inner, renames)
