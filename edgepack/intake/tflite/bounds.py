"""The check of what a readable flatbuffer says: indices, orders, shapes and sizes that belong together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import (
    CODES,
    DTYPES,
    OPERATORS,
    TYPES,
    Graph,
    builtin_code,
    graphs,
    ints,
    text,
)

#: No activation on a device is larger; TFLite itself counts a tensor's bytes in what may be 32 bits.
MAX_TENSOR_BYTES = (1 << 31) - 1
MAX_RANK = 16
#: Options that name another subgraph. Source: schema.fbs, IfOptions, WhileOptions, CallOnceOptions, StableHLO's.
SUBGRAPHS = (
    "thenSubgraphIndex",
    "elseSubgraphIndex",
    "condSubgraphIndex",
    "bodySubgraphIndex",
    "initSubgraphIndex",
    "subgraph",
    "subgraphIndex",
)


class _Wrong(Exception):
    """What does not fit, and where."""


def check(model: Any, path: Path) -> None:
    """Raises ModelError: the model's parts do not fit together; says which one and how."""
    try:
        _codes(model)
        for number, graph in enumerate(graphs(model)):
            where = f"subgraph {number}"
            for i, tensor in enumerate(graph.tensors or []):
                _tensor(model, tensor, f"{where}, tensor {i} ({text(tensor.name)!r})")
            _edges(graph, where)
            _order(graph, where)
        _calls(model)
        _signatures(model)
    except _Wrong as wrong:
        raise ModelError(
            f"{path} does not hold together: {wrong}", "export the model again"
        ) from None


def references(op: Any) -> list[int]:
    """Indices of the subgraphs an operator calls."""
    return [
        int(getattr(options, name))
        for options in (op.builtinOptions, op.builtinOptions2)
        for name in SUBGRAPHS
        if options is not None and isinstance(getattr(options, name, None), int)
    ]


def _codes(model: Any) -> None:
    if not model.subgraphs:
        raise _Wrong("it has no subgraph")
    if not model.buffers:
        raise _Wrong("it has no buffers")
    for i, code in enumerate(model.operatorCodes or []):
        number = builtin_code(code)
        if number not in OPERATORS:
            raise _Wrong(f"operator code {i} is {number}, which no TFLite schema has")
        if number == CODES["CUSTOM"] and not code.customCode:
            raise _Wrong(f"operator code {i} is a custom operator without a name")


def _tensor(model: Any, tensor: Any, where: str) -> None:
    if not 0 <= tensor.buffer < len(model.buffers):
        raise _Wrong(f"{where} refers to buffer {tensor.buffer} of {len(model.buffers)}")
    if tensor.type not in TYPES:
        raise _Wrong(f"{where} is of type {tensor.type}, which no TFLite schema has")
    shape = ints(tensor.shape)
    if len(shape) > MAX_RANK or any(d < 0 for d in shape):
        raise _Wrong(f"{where} has the shape {shape}")
    signature = ints(tensor.shapeSignature)
    if signature and (len(signature) != len(shape) or any(d < -1 for d in signature)):
        raise _Wrong(f"{where} has the shape {shape} and the shape signature {signature}")
    width = np.dtype(DTYPES.get(tensor.type, "int8")).itemsize
    size = math.prod(shape) * width
    if size > MAX_TENSOR_BYTES:
        raise _Wrong(f"{where} would take {size} bytes")
    data = model.buffers[tensor.buffer].data
    dense = tensor.type in DTYPES and tensor.sparsity is None
    if data is not None and len(data) and dense and len(data) != size:
        raise _Wrong(f"{where} of shape {shape} needs {size} bytes and has {len(data)}")
    _quantization(tensor, shape, where)


def _quantization(tensor: Any, shape: list[int], where: str) -> None:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None or not len(quantization.scale):
        return
    count, axis = len(quantization.scale), int(quantization.quantizedDimension)
    zeros = 0 if quantization.zeroPoint is None else len(quantization.zeroPoint)
    if count > 1 and not (0 <= axis < len(shape) and shape[axis] == count):
        raise _Wrong(f"{where} of shape {shape} has {count} scales on axis {axis}")
    if zeros not in (0, 1, count):
        raise _Wrong(f"{where} has {count} scales and {zeros} zero points")
    if not np.all(np.isfinite(quantization.scale)):
        raise _Wrong(f"{where} has a scale that is not finite")


def _edges(graph: Graph, where: str) -> None:
    count = len(graph.tensors or [])
    for what, indices in (
        ("inputs", graph.subgraph.inputs),
        ("outputs", graph.subgraph.outputs),
    ):
        for index in ints(indices):
            if not 0 <= index < count:
                raise _Wrong(f"{where} has tensor {index} of {count} among its {what}")
    inputs = ints(graph.subgraph.inputs)
    if len(set(inputs)) != len(inputs):
        raise _Wrong(f"{where} has a tensor twice among its inputs")


def _order(graph: Graph, where: str) -> None:
    """Operators stand in the order in which they run, so that each reads only what is already there."""
    count = len(graph.tensors or [])
    made = set(ints(graph.subgraph.inputs))
    for i, tensor in enumerate(graph.tensors or []):
        data = graph.model.buffers[tensor.buffer].data
        if (data is not None and len(data)) or tensor.isVariable:
            made.add(i)
    for number, op in enumerate(graph.operators or []):
        here = f"{where}, operator {number}"
        if not 0 <= op.opcodeIndex < len(graph.model.operatorCodes or []):
            raise _Wrong(f"{here} has the operator code {op.opcodeIndex}, which is not there")
        here += f" ({graph.name(op)})"
        for index in ints(op.inputs):
            if not -1 <= index < count:
                raise _Wrong(f"{here} reads tensor {index} of {count}")
            if index != -1 and index not in made and 0 not in ints(graph.tensors[index].shape):
                raise _Wrong(f"{here} reads tensor {index}, which nothing before it makes")
        for index in (*ints(op.outputs), *ints(op.intermediates)):
            if not -1 <= index < count:
                raise _Wrong(f"{here} writes tensor {index} of {count}")
        for index in ints(op.outputs):
            if index in made:
                raise _Wrong(f"{here} writes tensor {index}, which is made before it")
            made.add(index)
    for index in ints(graph.subgraph.outputs):
        if index not in made:
            raise _Wrong(f"{where} gives out tensor {index}, which nothing makes")


def _calls(model: Any) -> None:
    """Subgraphs call each other without circles."""
    called: dict[int, set[int]] = {}
    for number, graph in enumerate(graphs(model)):
        called[number] = {r for op in graph.operators or [] for r in references(op)}
        for index in called[number]:
            if not 0 <= index < len(model.subgraphs):
                raise _Wrong(f"subgraph {number} calls subgraph {index} of {len(model.subgraphs)}")
    while called:
        leaves = {n for n, targets in called.items() if not targets & called.keys()}
        if not leaves:
            raise _Wrong(
                f"subgraphs {', '.join(map(str, sorted(called)))} call each other in a circle"
            )
        called = {n: targets for n, targets in called.items() if n not in leaves}


def _signatures(model: Any) -> None:
    for signature in model.signatureDefs or []:
        where = f"signature {text(signature.signatureKey)!r}"
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            raise _Wrong(f"{where} is for subgraph {signature.subgraphIndex}, which is not there")
        tensors = model.subgraphs[signature.subgraphIndex].tensors or []
        for entry in (*(signature.inputs or []), *(signature.outputs or [])):
            if not 0 <= entry.tensorIndex < len(tensors):
                raise _Wrong(f"{where} names tensor {entry.tensorIndex} of {len(tensors)}")
