"""What travels between the rooms: a model file and the tensors at its edges."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property
from pathlib import Path

#: A size in elements, or the name of a free dimension.
Dim = int | str

#: The dtypes a bundle's inputs and outputs may have (numpy's names). Strings have no raw little-endian form.
DTYPES = (
    "float32",
    "float16",
    "float64",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
)


class Format(str, Enum):
    """The form a model file is in between two steps."""

    ONNX = "onnx"
    ORT = "ort"


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A model input or output: its name, numpy dtype name, and shape (a string is a named free dimension)."""

    name: str
    dtype: str
    shape: tuple[Dim, ...]

    @property
    def free_dims(self) -> tuple[tuple[int, str], ...]:
        """`(axis, name)` of each dimension without a size."""
        return tuple((i, d) for i, d in enumerate(self.shape) if isinstance(d, str))

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """A model on disk and the tensors at its edges. Its files are never changed after it was wrapped.

    Attributes:
        beside: the files that hold its weights where they do not lie in the one at `path`. They stay in one folder with it, under
            their names: the model refers to them.
    """

    path: Path
    format: Format
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    opset: int = field(default=0)
    beside: tuple[Path, ...] = field(default=())

    @cached_property
    def sha256(self) -> str:
        """64 hex digits: the file's digest, or that of names and digests of all its files."""
        return tree_sha256(self.path, self.beside)

    @property
    def size_bytes(self) -> int:
        """The size of all its files."""
        return tree_size(self.path, self.beside)

    def moved_to(self, path: Path) -> ModelFile:
        """This model with its file at `path`, those beside it in `path`'s folder under the names they have."""
        beside = tuple(path.parent / f.name for f in self.beside)
        return dataclasses.replace(self, path=path, beside=beside)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes as 64 hex digits, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def tree_sha256(path: Path, beside: Sequence[Path] = ()) -> str:
    """The SHA-256 of a file; of a folder, or a file with others `beside` it, that of relative paths and file digests, sorted."""
    if path.is_file() and not beside:
        return file_sha256(path)
    folder = path if path.is_dir() else path.parent
    digest = hashlib.sha256()
    for file in sorted((*_files(path), *beside)):
        digest.update(f"{file.relative_to(folder).as_posix()}\0{file_sha256(file)}\n".encode())
    return digest.hexdigest()


def tree_size(path: Path, beside: Sequence[Path] = ()) -> int:
    """Bytes in a file and those `beside` it, or in all files below a folder."""
    return sum(p.stat().st_size for p in (*_files(path), *beside))


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [p for p in path.rglob("*") if p.is_file()]
