"""An ONNX file without its weights: the same model, with a reference into the file in place of each large initializer.

protobuf reads a message whole or not at all, several copies on the way. Here only the fields on the path model → graph →
initializer → raw_data are looked at, in a mapped file; everything else is handed to protobuf as it is.

Source: protobuf, "Encoding"; onnx/onnx.proto for the field numbers.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx

from edgepack.weights import SMALL_BYTES, Region, is_reference, refer

_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5


def read(path: Path) -> onnx.ModelProto:
    """The model at `path`; initializers of SMALL_BYTES and more are references to files in `path`'s folder, often `path` itself.

    Raises:
        ValueError: the file is cut off or no protobuf. google.protobuf.message.DecodeError: the same, found by protobuf.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        parts: list[bytes] = []
        for number, start, body, end in _fields(data, 0, len(data)):
            if number == _GRAPH:
                parts.append(_delimited(_GRAPH, _graph(data, body, end, path.name)))
            else:
                parts.append(data[start:end])
    model = onnx.ModelProto()
    model.ParseFromString(b"".join(parts))
    return model


def write(
    model: onnx.ModelProto, path: Path, region_of: Callable[[onnx.TensorProto], Region]
) -> None:
    """Write `model` to `path` as one file, with the bytes that references among its initializers point to in their places.

    The file is the one that protobuf would write, byte for byte, had `model` held the weights itself.
    """
    data = model.SerializeToString(deterministic=True)
    pieces: list[bytes | Region] = []
    for number, start, body, end in _fields(data, 0, len(data)):
        if number == _GRAPH:
            inner = _graph_pieces(data, body, end, model.graph.initializer, region_of)
            pieces += [_head(_GRAPH, _length(inner)), *inner]
        else:
            pieces.append(data[start:end])
    with path.open("wb") as file:
        for piece in pieces:
            for block in piece.blocks() if isinstance(piece, Region) else (piece,):
                file.write(block)


def _graph_pieces(
    data: bytes,
    begin: int,
    end: int,
    initializers: Iterable[onnx.TensorProto],
    region_of: Callable[[onnx.TensorProto], Region],
) -> list[bytes | Region]:
    pieces: list[bytes | Region] = []
    tensors = iter(initializers)
    for number, start, _, stop in _fields(data, begin, end):
        tensor = next(tensors) if number == _INITIALIZER else None
        if tensor is None or not is_reference(tensor):
            pieces.append(data[start:stop])
        else:
            inner = _tensor_pieces(tensor, region_of(tensor))
            pieces += [_head(_INITIALIZER, _length(inner)), *inner]
    return pieces


def _tensor_pieces(tensor: onnx.TensorProto, region: Region) -> list[bytes | Region]:
    whole = onnx.TensorProto()
    whole.CopyFrom(tensor)
    whole.ClearField("data_location")
    del whole.external_data[:]
    # Where protobuf puts the field, the weights go.
    whole.raw_data = b"\0"
    data = whole.SerializeToString(deterministic=True)
    fields = _fields(data, 0, len(data))
    start, end = next((start, end) for number, start, _, end in fields if number == _RAW_DATA)
    return [data[:start], _head(_RAW_DATA, region.length), region, data[end:]]


def _length(pieces: Iterable[bytes | Region]) -> int:
    return sum(p.length if isinstance(p, Region) else len(p) for p in pieces)


def _graph(data: mmap.mmap, begin: int, end: int, name: str) -> bytes:
    parts: list[bytes] = []
    kept = begin
    for number, start, body, stop in _fields(data, begin, end):
        if number == _INITIALIZER and stop - body >= SMALL_BYTES:
            parts.append(data[kept:start])
            parts.append(_delimited(_INITIALIZER, _initializer(data, body, stop, name)))
            kept = stop
    parts.append(data[kept:end])
    return b"".join(parts)


def _initializer(data: mmap.mmap, begin: int, end: int, name: str) -> bytes:
    """A TensorProto whose raw data, if there are many, are a reference into the file `name`."""
    fields = list(_fields(data, begin, end))
    raw = [(body, stop) for number, _, body, stop in fields if number == _RAW_DATA]
    if len(raw) != 1 or raw[0][1] - raw[0][0] < SMALL_BYTES:
        return bytes(data[begin:end])
    tensor = onnx.TensorProto()
    tensor.ParseFromString(
        b"".join(data[start:stop] for number, start, _, stop in fields if number != _RAW_DATA)
    )
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        return bytes(tensor.SerializeToString())
    refer(tensor, name, raw[0][0], raw[0][1] - raw[0][0])
    return bytes(tensor.SerializeToString())


def _fields(data: mmap.mmap | bytes, begin: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """(field number, where its tag begins, where its value begins, where it ends) for the message in data[begin:end]."""
    at = begin
    while at < end:
        start = at
        tag, at = _varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        body = at
        if kind == _VARINT:
            _, at = _varint(data, at, end)
        elif kind == _DELIMITED:
            length, body = _varint(data, at, end)
            at = body + length
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"byte {start}: {kind} is no kind of field that ONNX has")
        if at > end or not number:
            raise ValueError(
                f"byte {start}: field {number} ends beyond its message: the file is cut off"
            )
        yield number, start, body, at


def _varint(data: mmap.mmap | bytes, at: int, end: int) -> tuple[int, int]:
    if at < end and data[at] < 0x80:
        return data[at], at + 1
    value = 0
    for shift in range(0, 70, 7):
        if at >= end:
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError(f"byte {at}: a number without end: the file is cut off")


def _delimited(number: int, body: bytes) -> bytes:
    """A field of bytes."""
    return _head(number, len(body)) + body


def _head(number: int, length: int) -> bytes:
    """What stands before the bytes of a field of `length` bytes."""
    out = bytearray()
    for value in (number << 3 | _DELIMITED, length):
        while value >= 0x80:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)
