"""A complex tensor as two real ones, and a writer of the nodes that stand in for one TensorFlow node.

ONNX has no operators on complex tensors. Two tensors of the same shape, rather than one with an axis of 2, leave every axis, permutation,
slice and shape between a transform and its ComplexAbs as it is, and add no rank, of which CoreML and TensorRT take few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from edgepack.errors import ModelError

#: The type of a complex tensor's parts.
PARTS: dict[int, int] = {
    onnx.TensorProto.COMPLEX64: onnx.TensorProto.FLOAT,
    onnx.TensorProto.COMPLEX128: onnx.TensorProto.DOUBLE,
}
_NUMPY: dict[int, type[np.floating[Any]]] = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.DOUBLE: np.float64,
}


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Names of the tensors that hold the real and the imaginary part; no imaginary part where it is 0 throughout."""

    real: str
    imag: str | None = None


class Writer:
    """Writes the nodes that replace `node`; their names are that node's and a number."""

    def __init__(self, graph: Any, node: Any) -> None:
        """Args:
        graph: tf2onnx's graph that holds `node`.
        node: a TensorFlow node, before tf2onnx has mapped it.
        """
        self.graph = graph
        self.node = node
        self._count = 0

    def _name(self) -> str:
        self._count += 1
        return f"{self.node.name}#{self._count}"  # TensorFlow allows no # in a name.

    def const(self, value: NDArray[Any], like: str | None = None) -> str:
        """A constant; `like` names a tensor whose floating-point type it takes."""
        if like is not None:
            value = value.astype(_NUMPY[self.dtype(like)])
        return str(self.graph.make_const(self._name(), np.ascontiguousarray(value)).output[0])

    def const_pair(self, real: NDArray[Any], imag: NDArray[Any], like: str) -> Pair:
        """A complex constant, without an imaginary part if that is 0."""
        return Pair(
            real=self.const(real, like), imag=self.const(imag, like) if imag.any() else None
        )

    def onnx(
        self,
        kind: str,
        inputs: Sequence[str],
        shape: Sequence[int] | None = None,
        dtype: int | None = None,
        **attributes: Any,
    ) -> str:
        """The output of a new ONNX node, of its first input's type unless told otherwise."""
        made = self.graph.make_node(
            kind,
            list(inputs),
            attr=attributes,
            name=self._name(),
            shapes=None if shape is None else [list(shape)],
            dtypes=[dtype or self.dtype(inputs[0])],
        )
        return str(made.output[0])

    def tensorflow(
        self,
        kind: str,
        inputs: Sequence[str],
        attributes: Mapping[str, Any] | None = None,
        shapes: Sequence[Any] | None = None,
        like: str | None = None,
    ) -> list[str]:
        """The outputs of a new TensorFlow node, which tf2onnx maps afterwards, of the type of `like` or of its first input."""
        shapes = self.shapes() if shapes is None else shapes
        made = self.graph.make_node(
            kind,
            list(inputs),
            attr=dict(attributes or {}),
            output_count=len(shapes),
            shapes=list(shapes),
            dtypes=[self.dtype(like or inputs[0])] * len(shapes),
            name=self._name(),
            skip_conversion=False,
            infer_shape_dtype=False,
        )
        return list(made.output)

    def finish(self, value: str) -> None:
        """Let `value` stand where the node's only output, now a real tensor, stood; its name stays, a graph output's too."""
        graph, node = self.graph, self.node
        name, output = node.name, node.output[0]
        shape = _merged(graph.get_shape(value), self.shapes()[0])
        dtype = self.dtype(value)
        graph.remove_node(name)
        graph.make_node(
            "Identity", [value], name=name, outputs=[output], shapes=[shape], dtypes=[dtype]
        )

    def shapes(self) -> list[Any]:
        """The shapes of the node's outputs; −1 for a free size, None for an unknown rank."""
        return [self.graph.get_shape(output) for output in self.node.output]

    def shape(self, tensor: str) -> list[int]:
        """A tensor's shape, −1 for a free size.

        Raises:
            ModelError: its rank is unknown.
        """
        shape = self.graph.get_shape(tensor)
        if shape is None:
            raise ModelError(
                f"{self.node.name} ({self.node.type}): the rank of {tensor} is unknown",
                "give the model's inputs a rank when it is exported, or give their shapes with --shape",
            )
        return list(shape)

    def dtype(self, tensor: str) -> int:
        """A tensor's ONNX type."""
        return int(self.graph.get_dtype(tensor))

    def constant_input(self, index: int, what: str) -> list[int]:
        """The numbers in a constant input.

        Raises:
            ModelError: it is computed at run time.
        """
        source = self.node.inputs[index]
        if source is None or not source.is_const():
            raise ModelError(
                f"{self.node.name} ({self.node.type}): {what} is computed at run time",
                "give it as a Python number, or fix the sizes that it is computed from with --shape",
            )
        return [int(i) for i in np.ravel(source.get_tensor_value(as_list=False))]

    def zeros_like(self, tensor: str) -> str:
        """Zeros of a tensor's shape."""
        shape = self.graph.get_shape(tensor)
        return self.tensorflow("ZerosLike", [tensor], shapes=[shape])[0]

    def imag(self, pair: Pair) -> str:
        """The imaginary part, zeros if it has none."""
        return pair.imag or self.zeros_like(pair.real)


def _merged(derived: list[int] | None, said: list[int] | None) -> list[int] | None:
    """The shape that was derived here, its free sizes taken from what TensorFlow said."""
    if derived is None or said is None or len(derived) != len(said):
        return said if derived is None else derived
    return [b if a < 0 else a for a, b in zip(derived, said, strict=True)]
