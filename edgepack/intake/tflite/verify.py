"""The check a flatbuffer must pass before anything reads it: every offset and every length stays inside the file."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

from edgepack.errors import ModelError

#: Tables a file may hold; flatbuffers' own C++ verifier stops at the same number (Verifier::Options::max_tables).
MAX_TABLES = 1_000_000

#: A field: bytes of a scalar; "string"; a table's name; [bytes of an element] or [a table's name] for a vector;
#: a mapping from the union's type to a table's name. `OPEN` is a table whose fields are checked as they are read.
_Field = int | str | list[int] | list[str] | Mapping[int, str]
_INDICES: Mapping[int, str] = {1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"}
_OPEN: Mapping[int, str] = dict.fromkeys(range(1, 256), "OPEN")

#: Field numbers and types of the tables that lead to everything else.
#: Source: tensorflow/lite/schema/schema.fbs (file identifier TFL3); a union takes two numbers, its type and its table.
_SCHEMA: Mapping[str, Mapping[int, _Field]] = {
    "Model": {
        0: 4,
        1: ["OperatorCode"],
        2: ["SubGraph"],
        3: "string",
        4: ["Buffer"],
        5: [4],
        6: ["Metadata"],
        7: ["SignatureDef"],
    },
    "OperatorCode": {0: 1, 1: "string", 2: 4, 3: 4},
    "SubGraph": {0: ["Tensor"], 1: [4], 2: [4], 3: ["Operator"], 4: "string", 5: 4},
    "Tensor": {
        0: [4],
        1: 1,
        2: 4,
        3: "string",
        4: "QuantizationParameters",
        5: 1,
        6: "SparsityParameters",
        7: [4],
        8: 1,
        9: ["VariantSubType"],
    },
    "QuantizationParameters": {0: [4], 1: [4], 2: [4], 3: [8], 4: 1, 5: _OPEN, 6: 4},
    "SparsityParameters": {0: [4], 1: [4], 2: ["DimensionMetadata"]},
    "DimensionMetadata": {0: 1, 1: 4, 2: 1, 3: _INDICES, 4: 1, 5: _INDICES},
    "Int32Vector": {0: [4]},
    "Uint16Vector": {0: [2]},
    "Uint8Vector": {0: [1]},
    "VariantSubType": {0: [4], 1: 1, 2: 1},
    "Operator": {
        0: 4,
        1: [4],
        2: [4],
        3: 1,
        4: _OPEN,
        5: [1],
        6: 1,
        7: [1],
        8: [4],
        9: 8,
        10: 8,
        11: 1,
        12: _OPEN,
        13: 4,
    },
    "Buffer": {0: [1], 1: 8, 2: 8},
    "Metadata": {0: "string", 1: 4},
    "SignatureDef": {0: ["TensorMap"], 1: ["TensorMap"], 2: "string", 4: 4},
    "TensorMap": {0: "string", 1: 4},
    "OPEN": {},
}


class _Damage(Exception):
    """What is wrong at which byte."""


def verify(data: bytes | memoryview, path: Path) -> None:
    """Raises ModelError: `data` is no TFLite flatbuffer, or an offset or a length in it leads outside the file.

    After this, reading the tables named above takes time and memory in proportion to the file's size.
    """
    if len(data) < 8 or bytes(data[4:8]) != b"TFL3":
        raise ModelError(
            f"{path} is not a TFLite model: the identifier TFL3 is missing",
            "export the model again",
        )
    try:
        _Walk(data).run()
    except _Damage as damage:
        raise ModelError(
            f"{path} is damaged: {damage} (the file has {len(data)} bytes)",
            "copy or export the model again",
        ) from None


class _Walk:
    """One pass over all tables; no recursion, so that depth costs nothing."""

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data
        self._size = len(data)
        self._tables = 0
        # Tables may share vectors and strings; a file that shares them a million times is an attack on memory.
        self._bytes = max(64 << 20, 4 * self._size)
        self._todo: list[tuple[int, str]] = []

    def run(self) -> None:
        self._todo.append((self._read("<I", 0), "Model"))
        while self._todo:
            self._table(*self._todo.pop())

    def _read(self, kind: str, at: int) -> int:
        if at < 0 or at + struct.calcsize(kind) > self._size:
            raise _Damage(f"an offset leads to byte {at}")
        return int(struct.unpack_from(kind, self._data, at)[0])

    def _table(self, at: int, name: str) -> None:
        self._tables += 1
        if self._tables > MAX_TABLES:
            raise _Damage(f"it has more than {MAX_TABLES} tables")
        vtable = at - self._read("<i", at)
        length, size = self._read("<H", vtable), self._read("<H", vtable + 2)
        if length < 4 or length % 2 or vtable + length > self._size or at + size > self._size:
            raise _Damage(f"the {name} table at byte {at} is cut off")
        fields = _SCHEMA[name]
        for number in range((length - 4) // 2):
            offset = self._read("<H", vtable + 4 + 2 * number)
            if offset == 0:
                continue
            if offset >= size:
                raise _Damage(f"field {number} of the {name} table at byte {at} lies outside it")
            if number in fields:
                kind = fields[number]
                if isinstance(kind, Mapping):
                    before = self._read("<H", vtable + 4 + 2 * (number - 1))
                    kind = kind.get(self._read("<B", at + before) if before else 0, "")
                    if not kind:
                        continue
                self._field(at + offset, kind, name)

    def _field(self, at: int, kind: _Field, name: str) -> None:
        if isinstance(kind, int):
            if at + kind > self._size:
                raise _Damage(f"a value of the {name} table lies at byte {at}")
            return
        start = at + self._read("<I", at)
        if kind == "string":
            self._vector(start, 1, name)
        elif isinstance(kind, str):
            self._todo.append((start, kind))
        elif isinstance(kind, list):
            element = kind[0]
            count = self._vector(start, element if isinstance(element, int) else 4, name)
            if isinstance(element, str):
                if self._tables + len(self._todo) + count > MAX_TABLES:
                    raise _Damage(f"it has more than {MAX_TABLES} tables")
                for i in range(count):
                    place = start + 4 + 4 * i
                    self._todo.append((place + self._read("<I", place), element))

    def _vector(self, at: int, width: int, name: str) -> int:
        count = self._read("<I", at)
        if at + 4 + count * width > self._size:
            raise _Damage(f"a list of {count} elements in the {name} table ends outside the file")
        self._bytes -= count * width
        if self._bytes < 0:
            raise _Damage("its tables share more data than the file can hold")
        return count
