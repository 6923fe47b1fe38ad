"""Protobuf's wire format, as far as it takes to tell one message type from another: the first fields, nothing loaded.

Source: protobuf's encoding guide (tag = number << 3 | wire type; wire types 0 varint, 1 fixed 64, 2 length-delimited, 5 fixed 32).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
#: Fields that are looked at; one model may hold a million.
_FIELDS = 64
_NAME = re.compile(rb"[\w.>/$:+-]{1,200}")
#: onnx.proto, ModelProto: ir_version … configuration.
_ONNX = {1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}
#: Onnx's IR versions are small; junk that begins with 0x08 seldom goes on so.
_NEWEST_IR = 100


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field: its number, its wire type, a varint's value, and where a length-delimited one's bytes are."""

    number: int
    wire: int
    value: int = 0
    start: int = 0
    size: int = 0

    @property
    def key(self) -> tuple[int, int]:
        """Number and wire type."""
        return self.number, self.wire


def fields(file: BinaryIO, start: int, end: int, limit: int = _FIELDS) -> Iterator[Field]:
    """The first `limit` fields between two offsets; it stops where the bytes are none (the last one may reach past `end`)."""
    for _ in range(limit):
        file.seek(start)
        head = file.read(min(20, max(0, end - start)))
        tag, at = _varint(head, 0)
        if tag is None or not 0 < tag >> 3 < 1 << 29:
            return
        number, wire = tag >> 3, tag & 7
        if wire in (VARINT, BYTES):
            value, at = _varint(head, at)
            if value is None:
                return
            body = start + at
            if wire == VARINT:
                yield Field(number=number, wire=wire, value=value)
                start = body
            else:
                yield Field(number=number, wire=wire, start=body, size=value)
                start = body + value
        elif wire in (FIXED64, FIXED32):
            yield Field(number=number, wire=wire)
            start += at + (8 if wire == FIXED64 else 4)
        else:
            return


def message_kind(file: BinaryIO, size: int) -> str | None:
    """Which message a file of `size` bytes holds: onnx, savedmodel, graphdef, metagraph, coreml, caffe, tensor; or None.

    Sources: onnx.proto (ModelProto, TensorProto), saved_model.proto, graph.proto, node_def.proto, meta_graph.proto,
    Model.proto of coremltools (models are fields 200 and up), caffe.proto (NetParameter).
    """
    top = list(fields(file, 0, size))
    if not top:
        return None
    keys, numbers = {f.key for f in top}, {f.number for f in top}
    first = top[0]
    if first.key == (1, BYTES):
        return _of_nodes(file, first, keys)
    if any(f.wire == BYTES and f.number >= 200 for f in top) and first.key == (1, VARINT):
        return "coreml"
    if (
        (2, VARINT) in keys
        and numbers <= {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}
        and (9, BYTES) in keys
    ):
        return "tensor"
    if numbers <= _ONNX and (7, BYTES) in keys and ((1, VARINT) in keys or (8, BYTES) in keys):
        return "onnx"
    if first.key == (1, VARINT) and numbers <= {1, 2} and (2, BYTES) in keys:
        meta = next(f for f in top if f.key == (2, BYTES))
        inner = next(fields(file, meta.start, min(size, meta.start + meta.size), 1), None)
        if inner is not None and inner.key == (1, BYTES):
            return "savedmodel"
    # Cut short before its graph: onnx's own reader says so.
    if first.key == (1, VARINT) and 0 < first.value < _NEWEST_IR and numbers <= _ONNX:
        return "onnx"
    return None


def _of_nodes(file: BinaryIO, first: Field, keys: set[tuple[int, int]]) -> str | None:
    """What begins with a length-delimited field 1: a node (GraphDef), meta information (MetaGraphDef), or a net's name (Caffe)."""
    inner = list(fields(file, first.start, first.start + first.size, 2))
    if [f.key for f in inner] == [(1, BYTES), (2, BYTES)] and all(_is_name(file, f) for f in inner):
        return "graphdef"
    if (100, BYTES) in keys:
        return "caffe"
    if inner and inner[0].number <= 5 and inner[0].wire == BYTES and keys <= _META:
        return "metagraph"
    return None


#: meta_graph.proto, MetaGraphDef: meta_info_def, graph_def, saver_def, collection_def, signature_def, asset_file_def, object_graph_def.
_META = {(n, BYTES) for n in range(1, 8)}


def _is_name(file: BinaryIO, field: Field) -> bool:
    file.seek(field.start)
    return bool(_NAME.fullmatch(file.read(min(field.size, 201))))


def _varint(data: bytes, at: int) -> tuple[int | None, int]:
    """The number that begins at `at` and the offset behind it; None where it does not end in ten bytes."""
    value = 0
    for i, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    return None, at
