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

#: What tf2onnx appends to keep names apart; its counter differs from run to run (tensorflow-onnx#1789).
_COUNTER = re.compile(r"__\d+")
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
    """Name nodes and inner tensors by their place in the graph, keeping the framework's layer paths.

    The converter's own counters go: two conversions of one model then give the same bytes.
    """
    graph = model.graph
    seen: Counter[str] = Counter()

    def fresh(name: str) -> str:
        base = _COUNTER.sub("", name) or "value"
        seen[base] += 1
        return base if seen[base] == 1 else f"{base}#{seen[base]}"

    edges = {v.name for v in (*graph.input, *graph.output)}
    seen.update(edges)
    renames: dict[str, str] = {}
    for node in graph.node:
        for name in (*node.input, *node.output):
            if name and name not in edges and name not in renames:
                renames[name] = fresh(name)
    _rename(graph, renames)
    node_names: Counter[str] = Counter()
    for node in _nodes(graph):
        base = _COUNTER.sub("", node.name) or node.op_type
        node_names[base] += 1
        node.name = base if node_names[base] == 1 else f"{base}#{node_names[base]}"
    ordered = sorted(graph.initializer, key=lambda i: i.name)
    del graph.initializer[:]
    graph.initializer.extend(ordered)
    del graph.value_info[:]


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
    for initializer in graph.initializer:
        yield initializer.name
    for node in _nodes(graph):
        yield from node.output


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
