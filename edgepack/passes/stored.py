"""Weights stored in fewer bits, and expanded to float32 once, when a session is created.

What expands them are plain Cast, Mul and Reshape nodes over constants. onnxruntime folds those at its lowest optimization level, of
whatever provider and version, without a setting; the session then runs the float graph. DequantizeLinear would say the same in one
node, but optimizers know it: onnxruntime-web 1.30 leaves it in the graph (MobileNetV2), or makes MatMulNBits of 8 bits of it
(a transformer, 1.6 times float's time). An .ort file cannot hold such weights: its converter folds, and writes float32.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgepack import onnxfile, weights
from edgepack.artifact import ModelFile
from edgepack.errors import StepError
from edgepack.passes.halves import half, is_beyond_half
from edgepack.topology import fresh, taken, value_names

_LARGEST = 127

Arrays = Iterator[tuple[str, NDArray[Any]]]


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A float32 initializer.

    Attributes:
        takers: (node, place among its inputs) of each that takes it; place −1: a body of it does.
    """

    tensor: onnx.TensorProto
    takers: tuple[tuple[onnx.NodeProto, int], ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Its sizes."""
        return tuple(self.tensor.dims)


def node_name(node: onnx.NodeProto) -> str:
    """A node's name, or its first output's where it has none, as `divergence` calls layers."""
    return str(node.name or node.output[0])


class Storage:
    """A model in which weights are given another form, one after the other."""

    def __init__(self, model: ModelFile, *, smallest: int) -> None:
        """Args: smallest: numbers below which a weight stays as it is: nodes take room, too.

        Raises:
            StepError: the model is quantized or in float16 already.
        """
        self.proto = onnxfile.load(model)
        if onnxfile.is_half(self.proto) or onnxfile.is_quantized(self.proto):
            raise StepError(
                "the model's weights are quantized or float16 already",
                "give the float32 model it was made from, or use --precision fp32, which leaves them as they are",
            )
        self._folder = model.path.parent
        self._smallest = smallest
        self._names = value_names(self.proto.graph)
        self._nodes: list[onnx.NodeProto] = []
        self._arrays: list[Callable[[], Arrays]] = []
        self.counts = {"int8": 0, "float16": 0}

    def weights(self) -> list[Weight]:
        """The float32 weights that are large enough, in the graph's order."""
        graph = self.proto.graph
        edges = {v.name for v in (*graph.input, *graph.output)}
        takers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in graph.node:
            for place, name in enumerate(node.input):
                takers.setdefault(name, []).append((node, place))
            for name in set(taken(node)) - set(node.input):
                takers.setdefault(name, []).append((node, -1))
        return [
            Weight(tensor=copy.deepcopy(tensor), takers=tuple(takers.get(tensor.name, ())))
            for tensor in graph.initializer
            if tensor.data_type == TensorProto.FLOAT
            and math.prod(tensor.dims) >= self._smallest
            and tensor.name not in edges
        ]

    def values(self, weight: Weight) -> NDArray[np.float32]:
        """The numbers, from disk."""
        return np.asarray(weights.array(weight.tensor, self._folder), np.float32)

    def as_float16(self, weight: Weight) -> bool:
        """Store a weight as float16; False where that cannot hold one of its values."""
        if is_beyond_half(weight.tensor, self._folder):
            return False
        stored = self.new_name(f"{weight.tensor.name}_float16")
        self.remove(weight)
        self.expand("Cast", [stored], weight.tensor.name, to=TensorProto.FLOAT)
        self.add(lambda: iter([(stored, half(weight.tensor, self._folder))]))
        self.counts["float16"] += 1
        return True

    def as_int8(self, weight: Weight, reduced: Sequence[int], block: int) -> None:
        """Store a weight as int8, with one scale for all numbers along the axes `reduced`, or for each `block` of them."""
        name, shape = weight.tensor.name, weight.shape
        view, axes = blocks(shape, reduced, block)
        integers, scale, floats = (
            self.new_name(f"{name}_{part}") for part in ("int8", "scale", "float")
        )
        self.remove(weight)
        self.expand("Cast", [integers], floats, to=TensorProto.FLOAT)
        if view == shape:
            self.expand("Mul", [floats, scale], name)
        else:
            scaled, sizes = self.new_name(f"{name}_scaled"), self.new_name(f"{name}_shape")
            self.expand("Mul", [floats, scale], scaled)
            self.expand("Reshape", [scaled, sizes], name)
            self.add(lambda: iter([(sizes, np.array(shape, np.int64))]))

        def arrays() -> Arrays:
            q, s = quantized(self.values(weight).reshape(view), axes)
            yield from ((integers, q), (scale, s))

        self.add(arrays)
        self.counts["int8"] += 1

    def new_name(self, wish: str) -> str:
        """A name that nothing in the graph has."""
        return fresh(wish, self._names)

    def remove(self, weight: Weight) -> None:
        """Take a weight out of the graph."""
        initializers = self.proto.graph.initializer
        initializers.remove(next(i for i in initializers if i.name == weight.tensor.name))

    def expand(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Add a node that onnxruntime folds."""
        name = f"{output}_{operator.lower()}"
        self._nodes.append(helper.make_node(operator, inputs, [output], name, **attributes))

    def add(self, arrays: Callable[[], Arrays]) -> None:
        """Have these initializers written when the model is; only then are they computed."""
        self._arrays.append(arrays)

    def save(self, path: Path) -> ModelFile:
        """Write the model; `self` is used no more."""
        nodes = list(self.proto.graph.node)
        del self.proto.graph.node[:]
        self.proto.graph.node.extend([*self._nodes, *nodes])
        onnxfile.trim(self.proto)
        arrays = (pair for make in self._arrays for pair in make())
        return onnxfile.save(self.proto, path, folder=self._folder, arrays=arrays)


def blocks(
    shape: tuple[int, ...], reduced: Sequence[int], block: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """How to look at a weight so that each scale belongs to all numbers along some axes: (shape, those axes).

    Its own shape and `reduced`, where there are to be no blocks (0), or those axes are not neighbours or no multiple of a block.
    """
    first, last = min(reduced), max(reduced)
    length = math.prod(shape[a] for a in reduced)
    if not block or len(reduced) != last - first + 1 or length % block or length == block:
        return shape, tuple(reduced)
    view = (*shape[:first], length // block, block, *shape[last + 1 :])
    return view, (first + 1,)


def quantized(
    values: NDArray[np.float32], axes: Sequence[int]
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8, and its scales (1 along `axes`): values ≈ integers · scales, off by half a scale at most."""
    peaks = np.abs(values).max(axis=tuple(axes), keepdims=True)
    scale = np.where(peaks > 0, peaks / _LARGEST, 1.0).astype(np.float32)
    return np.rint(values / scale).clip(-_LARGEST, _LARGEST).astype(np.int8), scale
