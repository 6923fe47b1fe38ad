"""Samples of one tensor, read when they are asked for: a thousand of them never have to be in memory together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError

#: What a pass over rows has in memory at a time.
_BLOCK_BYTES = 8 << 20


class Rows(Protocol):
    """N samples of one tensor, [N, …]. A numpy array is one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, …]."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of every sample."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> Any:
        """One sample for an int, an array [n, …] for a slice."""
        ...


@runtime_checkable
class MadeRows(Protocol):
    """Rows that edgepack makes itself as they are read: finite, and of the model's dtype, by the way they are made."""

    def digest(self) -> str:
        """64 hex digits, SHA-256 of all that the rows are made from."""
        ...

    def chosen(self, indices: Sequence[int]) -> Rows:
        """Some of these rows."""
        ...


@dataclass(frozen=True, kw_only=True)
class FileRows:
    """Rows that lie one after the other in a file, read with plain reads.

    Not memory-mapped: mapped pages count as the process's memory until the system wants them back, and keep the file from being
    deleted on Windows.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int = 0

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        """Raises DataError: the file has become shorter since it was opened."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("rows of a file are read with step 1")
            return self._read(start, max(0, stop - start))
        at = range(len(self))[index]
        row: NDArray[Any] = self._read(at, 1)[0]
        return row

    def _read(self, start: int, count: int) -> NDArray[Any]:
        width = int(np.prod(self.shape[1:], dtype=np.int64))
        with self.path.open("rb") as file:
            file.seek(self.offset + start * width * self.dtype.itemsize)
            flat = np.fromfile(file, self.dtype, count * width)
        if flat.size < count * width:
            raise DataError(
                f"{self.path.name}: ends inside sample {start + flat.size // max(1, width)}",
                "the file was changed while it was read; leave it alone until the end",
            )
        return flat.reshape(count, *self.shape[1:])


@dataclass(frozen=True, eq=False)
class CastRows:
    """Rows in another dtype, converted as they are read."""

    rows: Rows
    dtype: np.dtype[Any]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.rows.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any, /) -> Any:
        return np.asarray(self.rows[index]).astype(self.dtype, copy=False)


@dataclass(frozen=True, eq=False)
class ChosenRows:
    """Some rows of others, in the order given."""

    rows: Rows
    indices: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.indices), *self.rows.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.rows.dtype

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any, /) -> Any:
        if isinstance(index, slice):
            block = np.empty((len(self.indices[index]), *self.shape[1:]), self.dtype)
            for place, i in enumerate(self.indices[index]):
                block[place] = self.rows[i]
            return block
        return self.rows[self.indices[index]]


def choose(rows: Rows, indices: Sequence[int]) -> Rows:
    """The rows at `indices`, in that order, still read when they are asked for."""
    if isinstance(rows, MadeRows):
        return rows.chosen(indices)
    return ChosenRows(rows, tuple(indices))


def blocks(rows: Rows) -> Iterator[tuple[int, NDArray[Any]]]:
    """(index of the first, array [n, …]) for stretches of a few megabytes: one pass over all rows."""
    size = int(np.prod(rows.shape[1:], dtype=np.int64)) * rows.dtype.itemsize
    count = max(1, _BLOCK_BYTES // max(1, size))
    for start in range(0, len(rows), count):
        yield start, np.asarray(rows[start : start + count])
