"""Small formulas written as TFLite operators, one call each; what MediaPipe's own operators are spelled out with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.intake.tflite.flatbuffer import DTYPES, Graph, ints


class Lines:
    """Operators in the order they were written. Each method gives back the index of the tensor it makes."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.operators: list[Any] = []

    def shape(self, tensor: int) -> list[int]:
        """A tensor's shape."""
        return ints(self._graph.tensors[tensor].shape)

    def constant(self, value: NDArray[Any] | Sequence[Any], dtype: str = "float32") -> int:
        """A constant."""
        return self._graph.add_constant("", np.asarray(value, dtype))

    def write(
        self,
        name: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        options: Any = None,
        dtype: str | None = None,
    ) -> int:
        """Any operator; its output is of the first input's dtype unless said otherwise."""
        kind = dtype or DTYPES[self._graph.tensors[inputs[0]].type]
        made = self._graph.add_tensor("", shape, kind)
        self.operators.append(self._graph.operator(name, inputs, [made], options))
        return made

    def _both(self, name: str, a: int, b: int, options: Any, dtype: str | None = None) -> int:
        shape = np.broadcast_shapes(tuple(self.shape(a)), tuple(self.shape(b)))
        return self.write(name, [a, b], shape, options, dtype)

    def add(self, a: int, b: int) -> int:
        """a + b."""
        return self._both("ADD", a, b, schema.AddOptionsT())

    def subtract(self, a: int, b: int) -> int:
        """a − b."""
        return self._both("SUB", a, b, schema.SubOptionsT())

    def multiply(self, a: int, b: int) -> int:
        """a · b."""
        return self._both("MUL", a, b, schema.MulOptionsT())

    def divide(self, a: int, b: int) -> int:
        """a / b."""
        return self._both("DIV", a, b, schema.DivOptionsT())

    def lowest(self, a: int, b: int) -> int:
        """min(a, b), element by element."""
        return self._both("MINIMUM", a, b, schema.MaximumMinimumOptionsT())

    def highest(self, a: int, b: int) -> int:
        """max(a, b), element by element."""
        return self._both("MAXIMUM", a, b, schema.MaximumMinimumOptionsT())

    def compare(self, name: str, a: int, b: int) -> int:
        """1.0 where the comparison (EQUAL, LESS_EQUAL, GREATER_EQUAL) holds, else 0.0."""
        options = {
            "EQUAL": schema.EqualOptionsT,
            "LESS_EQUAL": schema.LessEqualOptionsT,
            "GREATER_EQUAL": schema.GreaterEqualOptionsT,
        }[name]()
        return self.cast(self._both(name, a, b, options, "bool"), "float32")

    def cast(self, a: int, dtype: str) -> int:
        """a in another dtype."""
        return self.write(
            "CAST",
            [a],
            self.shape(a),
            schema.CastOptionsT(
                inDataType=self._graph.tensors[a].type,
                outDataType=next(k for k, v in DTYPES.items() if v == dtype),
            ),
            dtype,
        )

    def matmul(self, a: int, b: int, transposed: bool = False) -> int:
        """a · b, or a · bᵀ, for [1, m, k] and [1, k, n]."""
        shape = [1, self.shape(a)[1], self.shape(b)[1 if transposed else 2]]
        return self.write(
            "BATCH_MATMUL", [a, b], shape, schema.BatchMatMulOptionsT(adjY=transposed)
        )

    def reshape(self, a: int, shape: Sequence[int]) -> int:
        """a in another shape."""
        to = self.constant(shape, "int32")
        return self.write("RESHAPE", [a, to], shape, schema.ReshapeOptionsT(newShape=list(shape)))

    def slice(self, a: int, begin: Sequence[int], size: Sequence[int]) -> int:
        """The block of `size` from `begin` on."""
        where = [self.constant(begin, "int32"), self.constant(size, "int32")]
        return self.write("SLICE", [a, *where], size, schema.SliceOptionsT())

    def concat(self, parts: Sequence[int], axis: int) -> int:
        """Tensors one after the other."""
        shape = self.shape(parts[0])
        shape[axis] = sum(self.shape(p)[axis] for p in parts)
        return self.write("CONCATENATION", parts, shape, schema.ConcatenationOptionsT(axis=axis))

    def gather(self, a: int, indices: int, axis: int) -> int:
        """The rows of `a` along `axis` that `indices` names."""
        shape = self.shape(a)
        shape[axis : axis + 1] = self.shape(indices)
        return self.write("GATHER", [a, indices], shape, schema.GatherOptionsT(axis=axis))

    def reduce(self, name: str, a: int, axis: int) -> int:
        """SUM, REDUCE_MAX or REDUCE_MIN along an axis, which stays with size 1."""
        shape = self.shape(a)
        shape[axis] = 1
        axes = self.constant([axis], "int32")
        return self.write(name, [a, axes], shape, schema.ReducerOptionsT(keepDims=True))

    def put_out(self, a: int, to: int) -> None:
        """Let the last line write into the tensor `to`."""
        assert ints(self.operators[-1].outputs) == [a]
        self.operators[-1].outputs = [to]
