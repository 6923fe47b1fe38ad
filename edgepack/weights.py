"""Weights apart from their graph: read by reference, written block by block, in a file of their own where protobuf's 2 GiB end.

A tensor whose `external_data` names a file, an offset and a length is a reference. A graph with references only is small, however
large its model: steps change the graph, and the weights go from file to file without a second copy in memory.

Source: onnx, docs/ExternalData.md.
"""

from __future__ import annotations

import copy
import math
import os
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepack.errors import ModelError
from edgepack.topology import subgraphs

#: The most that stays in one .onnx file. protobuf ends at 2 GiB (2^31 − 1), onnxruntime and the browser read one file more easily
#: than two, and what steps and tools add to the graph itself needs room: 128 MiB.
INLINE_LIMIT_BYTES = 2**31 - 2**27
#: Smaller tensors stay in the graph, where shape inference reads them. Source: onnx.external_data_helper's own default.
SMALL_BYTES = 1024
#: Where a tensor in a data file may begin: large ones where every system can map them (64 KiB is Windows' granularity), others
#: where vector instructions like them. Source: onnxruntime, core/graph/model_saving_options.h; onnx, docs/ExternalData.md.
_LARGE_BYTES, _LARGE_ALIGNMENT, _ALIGNMENT = 2**20, 2**16, 64
_BLOCK_BYTES = 1 << 24
#: Types of less than a byte, and strings, stay in the graph: they have no plain array form.
_AGAIN = "export the model again"
_PACKED = {"INT2": 2, "UINT2": 2, "INT4": 4, "UINT4": 4, "FLOAT4E2M1": 4}


@dataclass(frozen=True, kw_only=True)
class Region:
    """Where a tensor's bytes lie: `length` bytes of `file` from `offset` on."""

    file: Path
    offset: int
    length: int

    def blocks(self) -> Iterator[bytes]:
        """The bytes, in blocks."""
        with self.file.open("rb") as file:
            file.seek(self.offset)
            left = self.length
            while left:
                block = file.read(min(left, _BLOCK_BYTES))
                if not block:
                    raise OSError(f"{self.file} ends before {self.offset + self.length} bytes")
                left -= len(block)
                yield block


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor: initializers and those in attributes, in subgraphs and functions too."""
    for graph in graphs(model):
        if isinstance(graph, onnx.GraphProto):
            yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """The graph, its functions, and all subgraphs."""
    waiting: deque[onnx.GraphProto | onnx.FunctionProto] = deque([model.graph, *model.functions])
    while waiting:
        graph = waiting.popleft()
        yield graph
        for node in graph.node:
            waiting.extend(subgraphs(node))


def size_bytes(tensor: onnx.TensorProto) -> int:
    """How many bytes a tensor's values take by its dtype and shape; strings count nothing."""
    elements = int(math.prod(tensor.dims))
    name = TensorProto.DataType.Name(tensor.data_type)
    if name in ("STRING", "UNDEFINED"):
        return 0
    if name in _PACKED:
        return -(-elements * _PACKED[name] // 8)
    return elements * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def is_packed(tensor: onnx.TensorProto) -> bool:
    """Whether several values share a byte."""
    return TensorProto.DataType.Name(tensor.data_type) in _PACKED


def is_reference(tensor: onnx.TensorProto) -> bool:
    """Whether the values lie in a file."""
    return bool(tensor.data_location == TensorProto.EXTERNAL)


def region(tensor: onnx.TensorProto, folder: Path) -> Region:
    """Where a reference's bytes lie.

    Raises:
        ModelError: outside `folder`, behind a link, not there, not that many, or not as many as the shape needs.
    """
    what = f"the weights of {tensor.name!r}"
    entries = {e.key: e.value for e in tensor.external_data}
    location = entries.get("location", "")
    pure = PurePosixPath(location)
    if not pure.parts or "\0" in location or "\\" in location or pure.is_absolute():
        raise _misplaced(f"{what} lie in {location!r}, which is no path beside the model")
    if ".." in pure.parts or ":" in pure.parts[0]:
        raise _misplaced(f"{what} lie in {location!r}, outside the model's folder")
    file = folder
    for part in pure.parts:
        file = file / part
        if file.is_symlink():
            raise _misplaced(f"{what} lie in {location!r}: {part} is a link")
    try:
        info = file.stat()
    except OSError as error:
        raise _misplaced(f"{what} lie in {location!r}: {error.strerror}") from error
    if not stat.S_ISREG(info.st_mode):
        raise _misplaced(f"{what} lie in {location!r}, which is no regular file")
    if info.st_nlink > 1:
        # As onnx does: a second name may lie anywhere, and whoever unpacked the model may not have meant that file.
        raise _misplaced(
            f"{what} lie in {location!r}, which has another name elsewhere (a hard link)"
        )
    need = size_bytes(tensor)
    offset = _number(entries.get("offset", "0"), f"{what}: offset")
    length = _number(entries.get("length", str(info.st_size - offset)), f"{what}: length")
    if length != need:
        raise ModelError(f"{what} are {length} bytes; {list(tensor.dims)} needs {need}", _AGAIN)
    if offset + length > info.st_size:
        raise ModelError(
            f"{what} are to lie at {offset}–{offset + length} in {location!r}, which has {info.st_size} bytes",
            "copy the file again, or export the model again",
        )
    return Region(file=file, offset=offset, length=length)


def array(tensor: onnx.TensorProto, folder: Path) -> NDArray[Any]:
    """A tensor's values; those of a reference are mapped, not read."""
    if not is_reference(tensor):
        return np.asarray(numpy_helper.to_array(tensor))
    place = region(tensor, folder)
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type).newbyteorder("<")
    shape = tuple(tensor.dims)
    if not place.length:
        return np.zeros(shape, dtype)
    return np.memmap(place.file, dtype, mode="r", offset=place.offset, shape=shape)


def refer(tensor: onnx.TensorProto, location: str, offset: int, length: int) -> None:
    """Make `tensor` a reference; values it holds are dropped."""
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data"):
        tensor.ClearField(field)
    del tensor.uint64_data[:], tensor.external_data[:]
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", length)):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)


def take_in(tensor: onnx.TensorProto, folder: Path) -> None:
    """Read a reference's bytes into the tensor."""
    tensor.raw_data = b"".join(region(tensor, folder).blocks())
    tensor.ClearField("data_location")
    del tensor.external_data[:]


@dataclass(frozen=True, kw_only=True)
class Lifted:
    """The initializers as they were, and the inputs that stand for some of them meanwhile."""

    initializers: tuple[onnx.TensorProto, ...]
    inputs: frozenset[str]


def lift(model: onnx.ModelProto) -> Lifted:
    """Make graph inputs of the references among the initializers, for tools that would read them."""
    before = tuple(copy.deepcopy(i) for i in model.graph.initializer)
    kept = [i for i in before if not is_reference(i)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    listed = {v.name for v in model.graph.input}
    new = [i for i in before if is_reference(i) and i.name not in listed]
    for tensor in new:
        model.graph.input.append(
            helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        )
    return Lifted(initializers=before, inputs=frozenset(i.name for i in new))


def lower(model: onnx.ModelProto, lifted: Lifted) -> None:
    """Put back what `lift` took out, each in its place among the initializers; those that came since stand last."""
    inputs = [v for v in model.graph.input if v.name not in lifted.inputs]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    now = {i.name: copy.deepcopy(i) for i in model.graph.initializer}
    now |= {i.name: i for i in lifted.initializers if is_reference(i)}
    ordered = [now.pop(i.name) for i in lifted.initializers if i.name in now]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*ordered, *now.values()])


class DataFile:
    """`<path>.data` while it is written: under another name, `name`, and gone at the end unless it is kept."""

    def __init__(self, path: Path) -> None:
        self._final = path.with_name(f"{path.name}.data")
        self._part = path.with_name(f"{path.name}.data.part")
        self._file: BinaryIO | None = None
        self.name = self._part.name

    def __enter__(self) -> DataFile:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
            self._part.unlink(missing_ok=True)

    def take_all(
        self, model: onnx.ModelProto, folder: Path, arrays: Iterable[tuple[str, NDArray[Any]]]
    ) -> bool:
        """Put every large weight here if they are more than INLINE_LIMIT_BYTES in all, and else only `arrays`; says which.

        Either way only initializers of the graph itself are references afterwards.

        Args:
            folder: what references in `model` are relative to.
            arrays: initializers by name. They are written as they come and never held together. One that `model` has already (of
                whatever shape) is given these values; others are added.
        """
        known = {i.name: i for i in model.graph.initializer}
        for name, values in arrays:
            self.take_array(known.get(name) or model.graph.initializer.add(), name, values)
        large = sum(map(size_bytes, tensors(model))) > INLINE_LIMIT_BYTES
        if large:
            for tensor in model.graph.initializer:
                if not self.holds(tensor) and _is_movable(tensor):
                    self.take_blocks(tensor, _blocks(tensor, folder))
        top = 0 if large else len(model.graph.initializer)
        for i, tensor in enumerate(tensors(model)):
            # `tensors` begins with those of the graph itself.
            if i >= top and is_reference(tensor) and not self.holds(tensor):
                take_in(tensor, folder)
        return large

    def holds(self, tensor: onnx.TensorProto) -> bool:
        """Whether the tensor is a reference into this file."""
        return is_reference(tensor) and _location(tensor) == self.name

    def region(self, tensor: onnx.TensorProto, folder: Path) -> Region:
        """Where a reference's bytes lie, here or below `folder`."""
        return region(tensor, self._part.parent if self.holds(tensor) else folder)

    def take_array(self, tensor: onnx.TensorProto, name: str, values: NDArray[Any]) -> None:
        """Write `values` and make `tensor` a reference to them; small and packed ones it holds itself."""
        values = np.asarray(values, order="C")
        kind = TensorProto.STRING if values.dtype.kind in "OSU" else None
        kind = kind or helper.np_dtype_to_tensor_dtype(values.dtype)
        packed = TensorProto.DataType.Name(kind) in (*_PACKED, "STRING")
        if packed or values.nbytes < SMALL_BYTES:
            tensor.CopyFrom(numpy_helper.from_array(values, name))
            return
        tensor.Clear()
        tensor.name, tensor.data_type = name, kind
        tensor.dims.extend(values.shape)
        little = values.astype(values.dtype.newbyteorder("<"), copy=False)
        flat = little.reshape(-1).view(np.uint8)
        self.take_blocks(
            tensor, (flat[i : i + _BLOCK_BYTES] for i in range(0, flat.size, _BLOCK_BYTES))
        )
        self._open().flush()

    def take_blocks(self, tensor: onnx.TensorProto, blocks: Iterable[Any]) -> None:
        """Write a tensor's bytes and make it a reference to them."""
        file, length = self._open(), size_bytes(tensor)
        alignment = _LARGE_ALIGNMENT if length >= _LARGE_BYTES else _ALIGNMENT
        file.write(bytes(-file.tell() % alignment))
        offset = file.tell()
        for block in blocks:
            file.write(block)
        refer(tensor, self.name, offset, length)

    def keep(self, model: onnx.ModelProto) -> None:
        """Give the file its name, also in the references to it."""
        assert self._file is not None
        self._file.close()
        os.replace(self._part, self._final)
        for tensor in tensors(model):
            if self.holds(tensor):
                next(
                    e for e in tensor.external_data if e.key == "location"
                ).value = self._final.name

    def _open(self) -> BinaryIO:
        if self._file is None:
            self._file = self._part.open("wb")
        return self._file


def _blocks(tensor: onnx.TensorProto, folder: Path) -> Iterable[bytes]:
    if is_reference(tensor):
        return region(tensor, folder).blocks()
    if tensor.HasField("raw_data"):
        return (tensor.raw_data,)
    values = np.asarray(numpy_helper.to_array(tensor))
    return (values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes(),)


def _is_movable(tensor: onnx.TensorProto) -> bool:
    """Whether the values are many, and plain."""
    plain = is_reference(tensor) or tensor.HasField("raw_data") or not is_packed(tensor)
    return plain and size_bytes(tensor) >= SMALL_BYTES


def _location(tensor: onnx.TensorProto) -> str:
    return next((e.value for e in tensor.external_data if e.key == "location"), "")


def _number(text: str, what: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ModelError(f"{what} is {text!r}, not a whole number of at least 0", _AGAIN)
    return int(text)


def _misplaced(cause: str) -> ModelError:
    return ModelError(
        cause, "put the weights beside the model as regular files, as its exporter did"
    )
