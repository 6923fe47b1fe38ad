"""Writes the formula that stands in for one TensorFlow node; what is known when the model is converted is computed then."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray

from edgepack.errors import ModelError

#: A tensor of the graph by its name, or one whose value is known.
Value: TypeAlias = str | NDArray[Any]
#: Numbers take the type of the first tensor beside them.
Operand: TypeAlias = Value | np.generic | int | float | bool

_OPSET = 17
_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


class Formula:
    """ONNX nodes in place of a TensorFlow node. Called with an operator and its inputs, it gives back the output."""

    def __init__(self, ctx: Any, node: Any) -> None:
        """Args:
        ctx: tf2onnx's graph that holds `node`.
        """
        self.ctx = ctx
        self.node = node
        self.inputs: list[Value] = [self._known(i) for i in range(len(node.input))]

    def __call__(self, kind: str, *operands: Operand, **attributes: Any) -> Value:
        """The first output of a new node, or its value if all operands are known."""
        return self.several(1, kind, *operands, **attributes)[0]

    def several(self, count: int, kind: str, *operands: Operand, **attributes: Any) -> list[Value]:
        """All `count` outputs of a new node, or their values."""
        values = self._values(operands)
        known = [v for v in values if not isinstance(v, str)]
        if len(known) == len(values):
            return _computed(count, kind, known, attributes)
        names = [self.name(v) for v in values]
        made = self.ctx.make_node(kind, names, attr=attributes, output_count=count)
        return list(made.output)

    def name(self, value: Value) -> str:
        """The tensor's name; a known value becomes a constant."""
        if isinstance(value, str):
            return value
        from tf2onnx import utils

        const = self.ctx.make_const(utils.make_name(self.node.name), np.asarray(value, order="C"))
        return str(const.output[0])

    def dtype(self, value: Value) -> int:
        """Its ONNX type.

        Raises:
            ModelError: it is unknown.
        """
        if not isinstance(value, str):
            return int(onnx.helper.np_dtype_to_tensor_dtype(value.dtype))
        dtype = self.ctx.get_dtype(value)
        if dtype is None:
            raise self.refusal(f"the type of {value} is unknown", "export the model again")
        return int(dtype)

    def is_float(self, value: Value) -> bool:
        return self.dtype(value) in _FLOATS

    def rank(self, value: Value) -> int:
        """Raises ModelError: it is unknown."""
        if not isinstance(value, str):
            return int(value.ndim)
        shape = self.ctx.get_shape(value)
        if shape is None:
            raise self.refusal(
                f"the rank of {value} is unknown",
                "give the inputs of the model a rank when it is exported",
            )
        return len(shape)

    def shape(self, value: Value) -> list[int | None]:
        """Its sizes, None for free ones.

        Raises:
            ModelError: its rank is unknown.
        """
        self.rank(value)
        sizes = self.ctx.get_shape(value) if isinstance(value, str) else value.shape
        return [None if size < 0 else int(size) for size in sizes]

    def sizes(self, value: Value) -> Value:
        """Its shape as an int64 vector."""
        if self.rank(value) and None in self.shape(value):
            return self("Shape", value)
        return np.array(self.shape(value), np.int64)

    def size(self, value: Value, axis: int) -> Value:
        """One size, an int64 scalar."""
        size = self.shape(value)[axis]
        if size is not None:
            return np.array(size, np.int64)
        return self("Gather", self("Shape", value), np.array(axis % self.rank(value), np.int64))

    def cast(self, value: Value, dtype: int) -> Value:
        """`value` in an ONNX type."""
        return value if self.dtype(value) == dtype else self("Cast", value, to=dtype)

    def range(self, count: Value) -> Value:
        """0, 1, … count − 1 in the type of `count`, a scalar."""
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.dtype(count))
        return self("Range", np.array(0, dtype), count, np.array(1, dtype))

    def where(self, condition: Value, yes: Operand, no: Operand) -> Value:
        """Where, its numbers in the type of the other branch."""
        yes, no = self._values((yes, no))
        return self("Where", condition, yes, no)

    def unsqueeze(self, value: Value, *axes: int) -> Value:
        return self("Unsqueeze", value, np.array(axes, np.int64))

    def squeeze(self, value: Value, *axes: int) -> Value:
        return self("Squeeze", value, np.array(axes, np.int64))

    def reshape(self, value: Value, *sizes: int) -> Value:
        return self("Reshape", value, np.array(sizes, np.int64))

    def slice(self, value: Value, start: int, end: int, axis: int, step: int = 1) -> Value:
        return self("Slice", value, *(np.array([i], np.int64) for i in (start, end, axis, step)))

    def reduce(self, kind: str, value: Value, *axes: int, keepdims: bool = False) -> Value:
        """ReduceSum and its kin; over all axes if none are given."""
        if kind == "ReduceSum":  # The one that takes its axes as a tensor in opset 17.
            given = [np.array(axes, np.int64)] if axes else []
            return self(kind, value, *given, keepdims=int(keepdims))
        attributes = {"axes": list(axes)} if axes else {}
        return self(kind, value, keepdims=int(keepdims), **attributes)

    def known(self, index: int, what: str) -> NDArray[Any]:
        """The value of an input.

        Raises:
            ModelError: it is computed at run time.
        """
        value = self.inputs[index]
        if isinstance(value, str):
            raise self.refusal(f"{what} is computed at run time", "make it a constant of the model")
        return value

    def attribute(self, key: str, default: Any = None) -> Any:
        """The node's attribute; text as str."""
        value = self.node.get_attr_value(key, default)
        return value.decode() if isinstance(value, bytes) else value

    def refusal(self, cause: str, fix: str) -> ModelError:
        """An error that names the node."""
        return ModelError(f"node {self.node.name} ({self.node.type}): {cause}", fix)

    def finish(self, *values: Value) -> None:
        """Let `values` stand where the node's outputs stood, under their names and in their types."""
        names = [self.name(v) for v in values]
        name, outputs = self.node.name, self.node.output
        shapes, dtypes = self.node.output_shapes, self.node.output_dtypes
        self.ctx.remove_node(name)
        for i, (value, output) in enumerate(zip(names, outputs, strict=False)):
            same = self.ctx.get_dtype(value) in (None, dtypes[i])
            self.ctx.make_node(
                "Identity" if same else "Cast",
                [value],
                attr={} if same else {"to": dtypes[i]},
                name=f"{name}#{i}" if i else name,
                outputs=[output],
                shapes=[shapes[i]],
                dtypes=[dtypes[i]],
            )

    def _known(self, index: int) -> Value:
        source = self.node.inputs[index]
        if source is not None and source.is_const():
            return np.asarray(source.get_tensor_value(as_list=False))
        return str(self.node.input[index])

    def _values(self, operands: tuple[Operand, ...]) -> list[Value]:
        tensors = [
            np.asarray(o) if isinstance(o, np.generic) else o
            for o in operands
            if isinstance(o, (str, np.ndarray, np.generic))
        ]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(self.dtype(tensors[0])) if tensors else None
        return [
            o
            if isinstance(o, str)
            else np.asarray(o)
            if isinstance(o, (np.ndarray, np.generic))
            else np.array(o, dtype)
            for o in operands
        ]


def original(ctx: Any, node: Any, handler: Any, **arguments: Any) -> None:
    """Let tf2onnx's own handler class write the node.

    Not by the operator's name: tf2onnx puts custom handlers into the registry where its own stand.
    """
    versions = [v for v in range(1, _OPSET + 1) if hasattr(handler, f"version_{v}")]
    getattr(handler, f"version_{versions[-1]}")(ctx, node, **arguments)


def _computed(
    count: int, kind: str, values: list[NDArray[Any]], attributes: dict[str, Any]
) -> list[Value]:
    names = [f"x{i}" for i in range(len(values))]
    outputs = [f"y{i}" for i in range(count)]
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(kind, names, outputs, **attributes)],
        "known",
        [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), None
            )
            for n, v in zip(names, values, strict=True)
        ],
        [onnx.helper.make_empty_tensor_value_info(o) for o in outputs],
    )
    from onnx.reference import ReferenceEvaluator

    opset = onnx.helper.make_opsetid("", _OPSET)
    model = onnx.helper.make_model(graph, opset_imports=[opset])
    with np.errstate(
        divide="ignore", over="ignore", invalid="ignore"
    ):  # As at run time: 1 / 0 is ∞.
        found = ReferenceEvaluator(model).run(None, dict(zip(names, values, strict=True)))
    return [np.asarray(v) for v in found]
