"""Is an ONNX file what it says? Asked before anything is run or allocated by its word."""

from __future__ import annotations

import copy
import heapq
import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, numpy_helper

from edgepack import skeleton, weights
from edgepack.errors import ModelError, StepError
from edgepack.opsets import at_opset
from edgepack.topology import subgraphs, taken

#: More nodes than any model that runs on a device has (the largest unrolled ones have some 100,000), fewer than choke the tools.
MAX_NODES = 250_000
#: Fields of TensorProto that hold values one by one. Source: onnx/onnx.proto.
_TYPED = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")
#: The oldest operator set that onnxruntime runs, and the one that older models are taken to, which TensorRT reads as well.
#: Source: onnxruntime documentation, "Compatibility": "opset version 7 and higher".
OLDEST_OPSET, UPDATED_OPSET = 7, 9
_AGAIN = "export the model again"


def open_checked(path: Path) -> onnx.ModelProto:
    """The model without its weights (see edgepack.skeleton), checked.

    Raises:
        ModelError: names the file and what is wrong: cut off, no ONNX, too many nodes, names given twice, nodes in a circle,
            tensors whose data do not fill their shape, data outside the file's folder.
    """
    try:
        model = skeleton.read(path)
        _require_few_nodes(model)
        _require_single_names(model)
        for tensor in weights.tensors(model):
            _require_filled(tensor, path.parent)
        _forgive_unlisted(model)
        _sort(model.graph, frozenset())
        lifted = weights.lift(model)
        onnx.checker.check_model(model)
        weights.lower(model, lifted)
        for sparse in model.graph.sparse_initializer:
            _require_small(sparse)
    except ModelError as error:
        raise ModelError(f"{path}: {error.cause}", error.fix) from error
    except Exception as error:  # onnx raises protobuf's, its own and OS errors
        raise ModelError(f"{path} is not a valid ONNX model: {error}", _AGAIN) from error
    return model


def plain(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    """The same model without what later tools do not know: functions of its own, sparse initializers, constants among the inputs.

    A constant that is listed as an input could be given another value by a caller; no bundle offers that, and onnxruntime folds
    only what cannot change.
    """
    if model.functions:
        lifted = weights.lift(model)
        model = onnx.inliner.inline_local_functions(model)
        weights.lower(model, lifted)
    for sparse in model.graph.sparse_initializer:
        model.graph.initializer.append(_dense(sparse, folder))
    del model.graph.sparse_initializer[:]
    constants = {i.name for i in model.graph.initializer}
    inputs = [v for v in model.graph.input if v.name not in constants]
    if len(inputs) < len(model.graph.input):
        del model.graph.input[:]
        model.graph.input.extend(inputs)
        # Before version 4 of the format every initializer had to be an input.
        model.ir_version = max(model.ir_version, 4)
    return model


def updated(model: onnx.ModelProto, path: Path) -> onnx.ModelProto:
    """A model of an operator set before OLDEST_OPSET, in UPDATED_OPSET.

    Raises:
        ModelError: an operator cannot be taken there; names it and its nodes.
    """
    try:
        return at_opset(model, UPDATED_OPSET)
    except StepError as error:
        raise ModelError(
            f"{path} is too old for onnxruntime, and {error.cause}",
            "export the model again with a newer exporter",
        ) from error


def _require_few_nodes(model: onnx.ModelProto) -> None:
    nodes = sum(len(graph.node) for graph in weights.graphs(model))
    if nodes > MAX_NODES:
        raise ModelError(
            f"{nodes:,} nodes; edgepack takes up to {MAX_NODES:,}",
            "export it with loops instead of unrolled ones, or split it",
        )


def _sort(graph: onnx.GraphProto, around: frozenset[str]) -> None:
    """Put each node after those it reads from, here and in subgraphs; a graph that is in order already stays as it is.

    onnxruntime takes any order, and its own float16 converter writes such files; ONNX and other tools do not.

    Args:
        around: names that the graphs around this one know.

    Raises:
        ModelError: nodes read from each other in a circle; names some of them.
    """
    known = {v.name for v in graph.input} | {i.name for i in graph.initializer} | {""} | around
    known |= {s.values.name for s in graph.sparse_initializer}
    made = {name for node in graph.node for name in node.output}
    waiting: dict[str, list[int]] = {}
    missing, ready, order = [], [], []
    for i, node in enumerate(graph.node):
        needs = {n for n in taken(node) if n in made and n not in known}
        missing.append(len(needs))
        for name in needs:
            waiting.setdefault(name, []).append(i)
        if not needs:
            ready.append(i)
    # The earliest of those that can come: what is in order stays.
    heapq.heapify(ready)
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for name in graph.node[i].output:
            for reader in waiting.pop(name, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    heapq.heappush(ready, reader)
    if len(order) < len(graph.node):
        rest = sorted(set(range(len(graph.node))) - set(order))[:4]
        names = ", ".join(graph.node[i].name or f"that of {graph.node[i].output[0]}" for i in rest)
        raise ModelError(f"nodes read from each other in a circle: {names}", _AGAIN)
    if order != sorted(order):
        nodes = [copy.deepcopy(graph.node[i]) for i in order]
        del graph.node[:]
        graph.node.extend(nodes)
    for node in graph.node:
        for inner in subgraphs(node):
            _sort(inner, frozenset(known | made))


def _forgive_unlisted(model: onnx.ModelProto) -> None:
    """Before version 4 of the format every initializer had to be an input; onnxruntime never minded, and files exist."""
    listed = {v.name for v in model.graph.input}
    if any(i.name not in listed for i in model.graph.initializer):
        model.ir_version = max(model.ir_version, 4)


def _require_single_names(model: onnx.ModelProto) -> None:
    graph = model.graph
    constants = [i.name for i in graph.initializer] + [
        s.values.name for s in graph.sparse_initializer
    ]
    for what, names in (
        ("inputs", [v.name for v in graph.input]),
        ("outputs", [v.name for v in graph.output]),
        ("initializers", constants),
    ):
        twice = _twice(names)
        if twice:
            raise ModelError(f"two {what} are called {', '.join(map(repr, twice))}", _AGAIN)


def _require_filled(tensor: onnx.TensorProto, folder: Path) -> None:
    """Raises ModelError: the data are fewer or more than the shape needs, or lie where they must not."""
    name = f"tensor {tensor.name!r}"
    if tensor.data_type not in TensorProto.DataType.values() or not tensor.data_type:
        raise ModelError(f"{name} is of type {tensor.data_type}, which ONNX does not have", _AGAIN)
    if any(d < 0 for d in tensor.dims):
        raise ModelError(f"{name} has the shape {list(tensor.dims)}", _AGAIN)
    if weights.is_reference(tensor):
        weights.region(tensor, folder)
        return
    if tensor.HasField("raw_data"):
        need, has, unit = weights.size_bytes(tensor), len(tensor.raw_data), "bytes"
    elif weights.is_packed(tensor):
        return
    else:
        complex_ = tensor.data_type in (TensorProto.COMPLEX64, TensorProto.COMPLEX128)
        need = math.prod(tensor.dims) * (2 if complex_ else 1)
        has, unit = sum(len(getattr(tensor, field)) for field in _TYPED), "values"
    if need != has:
        raise ModelError(
            f"{name} of shape {list(tensor.dims)} needs {need:,} {unit} and has {has:,}", _AGAIN
        )


def _require_small(sparse: onnx.SparseTensorProto) -> None:
    """Raises ModelError: with its zeros it is more than a file may hold."""
    dense = TensorProto(dims=sparse.dims, data_type=sparse.values.data_type)
    if weights.size_bytes(dense) > weights.INLINE_LIMIT_BYTES:
        raise ModelError(
            f"the sparse initializer {sparse.values.name!r} of shape {list(sparse.dims)} has "
            f"{weights.size_bytes(dense):,} bytes with its zeros",
            "edge runtimes hold weights with their zeros: make it smaller",
        )


def _dense(sparse: onnx.SparseTensorProto, folder: Path) -> onnx.TensorProto:
    values = weights.array(sparse.values, folder)
    indices = weights.array(sparse.indices, folder)
    result = np.zeros(tuple(sparse.dims), values.dtype)
    if indices.ndim == 1:
        result.reshape(-1)[indices] = values
    else:
        result[tuple(indices.T)] = values
    return numpy_helper.from_array(result, sparse.values.name)


def _twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
