"""TFLite flatbuffers as objects that can be changed: read, written, and looked into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.intake.tflite.verify import verify

#: A flatbuffer's own offsets are 31 bits wide.
MAX_BYTES = (1 << 31) - 1

OPERATORS: Mapping[int, str] = {
    v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)
}
CODES: Mapping[str, int] = {k: v for v, k in OPERATORS.items()}
TYPES: Mapping[int, str] = {v: k for k, v in vars(schema.TensorType).items() if isinstance(v, int)}
DTYPES: Mapping[int, str] = {
    schema.TensorType.FLOAT32: "float32",
    schema.TensorType.FLOAT16: "float16",
    schema.TensorType.FLOAT64: "float64",
    schema.TensorType.INT8: "int8",
    schema.TensorType.UINT8: "uint8",
    schema.TensorType.INT16: "int16",
    schema.TensorType.UINT16: "uint16",
    schema.TensorType.INT32: "int32",
    schema.TensorType.UINT32: "uint32",
    schema.TensorType.INT64: "int64",
    schema.TensorType.UINT64: "uint64",
    schema.TensorType.BOOL: "bool",
    schema.TensorType.COMPLEX64: "complex64",
    schema.TensorType.COMPLEX128: "complex128",
}
#: Schema 3a of 2020 moved operator codes from 8 to 32 bits; older files have them in the deprecated field.
_MOVED = 127


def read(path: Path) -> Any:
    """The file's `ModelT`, with buffers that lie behind the flatbuffer (files near 2 GiB) brought in.

    Raises:
        ModelError: it is no TFLite file, or it is damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check who may read it") from error
    verify(data, path)
    try:
        model = schema.ModelT.InitFromPackedBuf(data, 0)
        model.operatorCodes = model.operatorCodes or []
        for buffer in model.buffers or []:
            if buffer.offset > 1:
                buffer.data = _outside(data, buffer.offset, buffer.size)
                buffer.offset = buffer.size = 0
        for graph in model.subgraphs or []:
            graph.tensors, graph.operators = graph.tensors or [], graph.operators or []
            for op in graph.operators:
                if op.largeCustomOptionsOffset > 1:
                    op.customOptions = _outside(
                        data, op.largeCustomOptionsOffset, op.largeCustomOptionsSize
                    )
                    op.largeCustomOptionsOffset = op.largeCustomOptionsSize = 0
    except Exception as error:  # struct.error, ValueError, IndexError … of an operator's options
        raise ModelError(
            f"{path} is damaged: {type(error).__name__}: {error}", "copy or export the model again"
        ) from error
    return model


def _outside(data: bytes, offset: int, size: int) -> NDArray[np.uint8]:
    if offset + size > len(data):
        raise ValueError(f"a buffer of {size} bytes at byte {offset} ends outside the file")
    return np.frombuffer(data, np.uint8, size, offset)


def write(model: Any) -> bytes:
    """The flatbuffer of `model`; the same bytes for the same content.

    Raises:
        ModelError: it would be larger than a flatbuffer can be.
    """
    size = sum(len(b.data) for b in model.buffers if b.data is not None)
    if size > MAX_BYTES - (16 << 20):
        raise ModelError(
            f"the model's weights take {size} bytes when they are unpacked, more than a TFLite file can hold (2 GiB)",
            "give the Keras model or SavedModel it was made from",
        )
    builder = flatbuffers.Builder(size + (1 << 16))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def ints(values: Any) -> list[int]:
    """A vector of the flatbuffer as a list; an absent one is empty."""
    return [] if values is None else [int(v) for v in values]


def text(value: Any) -> str:
    """A string of the flatbuffer."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


@dataclass(frozen=True, kw_only=True)
class Graph:
    """One subgraph of a model, and what the rewrites do to it."""

    model: Any
    subgraph: Any

    @property
    def tensors(self) -> list[Any]:
        """`TensorT`s; an operator names them by index."""
        return self.subgraph.tensors  # type: ignore[no-any-return]

    @property
    def operators(self) -> list[Any]:
        """`OperatorT`s in the order in which they run."""
        return self.subgraph.operators  # type: ignore[no-any-return]

    def name(self, op: Any) -> str:
        """An operator's built-in name (`CONV_2D`), or its own name if it is a custom one."""
        code = self.model.operatorCodes[op.opcodeIndex]
        builtin = builtin_code(code)
        return text(code.customCode) if builtin == CODES["CUSTOM"] else OPERATORS[builtin]

    def constant(self, index: int) -> NDArray[Any] | None:
        """The value of a dense constant; None for a tensor that is computed, sparse, or of strings or packed bits."""
        tensor = self.tensors[index]
        data = self.model.buffers[tensor.buffer].data
        if data is None or len(data) == 0 or tensor.type not in DTYPES:
            return None
        if tensor.sparsity is not None:
            return None
        return np.asarray(data, np.uint8).view(DTYPES[tensor.type]).reshape(ints(tensor.shape))

    def producer(self, index: int) -> Any | None:
        """The operator that makes a tensor."""
        return next((op for op in self.operators if index in ints(op.outputs)), None)

    def set_constant(self, index: int, value: NDArray[Any]) -> None:
        """Give a tensor a value, and the type and shape of that value. Its quantization goes."""
        tensor = self.tensors[index]
        dense = np.ascontiguousarray(value)
        self.model.buffers.append(schema.BufferT(data=dense.reshape(-1).view(np.uint8)))
        tensor.buffer = len(self.model.buffers) - 1
        tensor.type = _type(dense)
        tensor.shape = np.array(value.shape, np.int32)
        tensor.shapeSignature = tensor.sparsity = tensor.quantization = None

    def add_constant(self, name: str, value: NDArray[Any]) -> int:
        """The index of a new constant."""
        index = self.add_tensor(name, value.shape, str(value.dtype))
        self.set_constant(index, value)
        return index

    def add_tensor(self, name: str, shape: Sequence[int], dtype: str = "float32") -> int:
        """The index of a new tensor that an operator will make."""
        kind = next(k for k, v in DTYPES.items() if v == dtype)
        tensor = schema.TensorT(
            shape=np.array(shape, np.int32), type=kind, buffer=0, name=name.encode(), hasRank=True
        )
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], options: Any = None
    ) -> Any:
        """A new operator, which the caller puts into `operators`.

        Args:
            options: the built-in options, such as `schema.AddOptionsT()`.
        """
        kind = 0
        if options is not None:
            kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        return schema.OperatorT(
            opcodeIndex=operator_code(self.model, name),
            inputs=np.array(inputs, np.int32),
            outputs=np.array(outputs, np.int32),
            builtinOptionsType=kind,
            builtinOptions=options,
        )


def graphs(model: Any) -> list[Graph]:
    """All subgraphs, the main one first."""
    return [Graph(model=model, subgraph=s) for s in model.subgraphs]


def builtin_code(code: Any) -> int:
    """An operator code's number, from whichever of its two fields the writer used.

    Source: GetBuiltinCode in tensorflow/compiler/mlir/lite/schema/schema_utils.cc.
    """
    return max(int(code.builtinCode), int(code.deprecatedBuiltinCode))


def operator_code(model: Any, name: str) -> int:
    """The index of a built-in operator's code, added if the model has none yet."""
    number = CODES[name]
    for i, code in enumerate(model.operatorCodes):
        if builtin_code(code) == number:
            return i
    model.operatorCodes.append(
        schema.OperatorCodeT(
            deprecatedBuiltinCode=min(number, _MOVED), builtinCode=number, version=1
        )
    )
    return len(model.operatorCodes) - 1


def _type(value: NDArray[Any]) -> int:
    return next(k for k, v in DTYPES.items() if v == str(value.dtype))
