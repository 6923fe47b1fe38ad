"""Sparse weights → dense ones. tf2onnx 1.17 takes the packed values for the whole weight and fails on their number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import DTYPES, Graph, ints, text

#: A weight with fewer values than one in a thousand is no weight but an attack on memory; small ones cost nothing.
_SPARSEST, _FREE = 1000, 1 << 20


def densify(graph: Graph) -> None:
    """Make every sparse constant dense, and let what reads a DENSIFY's output read the constant itself.

    Raises:
        ModelError: sparsity parameters that contradict the weight.
    """
    for index, tensor in enumerate(graph.tensors):
        if tensor.sparsity is None:
            continue
        try:
            dense = _dense(graph, tensor)
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(
                f"the sparse weight {text(tensor.name)!r} does not hold together: {error}",
                "export the model again",
            ) from error
        quantization = tensor.quantization
        graph.set_constant(index, dense)
        tensor.quantization = quantization
    for op in [o for o in graph.operators if graph.name(o) == "DENSIFY"]:
        replace(graph, ints(op.outputs)[0], ints(op.inputs)[0])
        graph.operators.remove(op)


def replace(graph: Graph, old: int, new: int) -> None:
    """Let everything that reads tensor `old`, and the graph's outputs, read `new`."""
    for op in graph.operators:
        if op.inputs is not None:
            op.inputs = [new if i == old else i for i in ints(op.inputs)]
    graph.subgraph.outputs = [new if i == old else i for i in ints(graph.subgraph.outputs)]


def _dense(graph: Graph, tensor: Any) -> NDArray[Any]:
    """The weight that a tensor's sparsity parameters unfold to.

    A weight of rank n cut into blocks of k dimensions is stored in n + k dimensions, in traversal order. Each of them is
    dense (all places are there) or sparse in CSR form (segments say how many, indices say which).
    Source: SparsityParameters in schema.fbs; https://www.tensorflow.org/mlir/tfl_ops, `tfl.densify`.
    """
    shape, sparsity = ints(tensor.shape), tensor.sparsity
    order, blocks = ints(sparsity.traversalOrder), ints(sparsity.blockMap)
    levels = sparsity.dimMetadata or []
    if sorted(order) != list(range(len(shape) + len(blocks))) or len(levels) != len(order):
        raise ValueError(f"traversal order {order} for rank {len(shape)} and {len(blocks)} blocks")
    values = np.asarray(graph.model.buffers[tensor.buffer].data, np.uint8)
    values = values.view(DTYPES[tensor.type])
    sizes = [0] * len(order)  # of the unfolded array's dimensions, in their own order
    for k, axis in enumerate(blocks):
        level = levels[order.index(len(shape) + k)]
        if level.format != schema.DimensionType.DENSE or level.denseSize < 1:
            raise ValueError(f"block dimension {k} is not dense")
        if not 0 <= axis < len(shape) or shape[axis] % level.denseSize:
            raise ValueError(f"blocks of {level.denseSize} on axis {axis} of {shape}")
        sizes[len(shape) + k] = int(level.denseSize)
    for axis, size in enumerate(shape):
        inner = math.prod(sizes[len(shape) + k] for k, a in enumerate(blocks) if a == axis)
        sizes[axis] = size // inner
    if math.prod(shape) > max(_FREE, _SPARSEST * len(values)):
        raise ValueError(f"{len(values)} values for a weight of shape {shape}")
    places = _places(levels, [sizes[i] for i in order], len(values))
    unfolded = np.zeros(sizes, values.dtype)
    in_order = unfolded.transpose(order)
    in_order[tuple(places)] = values
    return _join(unfolded, shape, blocks)


def _places(levels: list[Any], sizes: list[int], count: int) -> list[NDArray[np.int64]]:
    """Where each stored value goes: one array of indices per level, level after level from the outside in."""
    places: list[NDArray[np.int64]] = []
    rows = 1
    for level, size in zip(levels, sizes, strict=True):
        if level.format == schema.DimensionType.DENSE:
            if level.denseSize != size:
                raise ValueError(f"a dense dimension of {level.denseSize} where {size} belongs")
            repeats: Any = size
            here = np.tile(np.arange(size), rows)
            rows *= size
        else:
            segments = np.asarray(level.arraySegments.values, np.int64)
            here = np.asarray(level.arrayIndices.values, np.int64)
            repeats = np.diff(segments)
            if len(segments) != rows + 1 or segments[0] != 0 or np.any(repeats < 0):
                raise ValueError(f"{len(segments)} segments for {rows} rows")
            if segments[-1] != len(here) or (
                len(here) and not 0 <= here.min() <= here.max() < size
            ):
                raise ValueError(f"indices outside a dimension of {size}")
            rows = len(here)
        places = [np.repeat(p, repeats) for p in places] + [here]
    if rows != count:
        raise ValueError(f"{rows} places for {count} values")
    return places


def _join(unfolded: NDArray[Any], shape: list[int], blocks: list[int]) -> NDArray[Any]:
    """Put block dimensions behind the axes they cut, then merge both."""
    order = []
    for axis in range(len(shape)):
        order.append(axis)
        order += [len(shape) + k for k, a in enumerate(blocks) if a == axis]
    return unfolded.transpose(order).reshape(shape)
