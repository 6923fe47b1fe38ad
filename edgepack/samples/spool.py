"""Rows of unknown number written to a file as they come, so that they can be read again and again in little memory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.samples.rows import FileRows


class Spool:
    """A file of rows that grows. Use as a context manager; `rows()` afterwards.

    All spools of one data set take at most half of what was free on the disk when they began: a generator without end does not
    fill it.
    """

    def __init__(self, path: Path, what: str, inputs: int = 1) -> None:
        """Args: what: names the data in messages; inputs: how many spools there are besides that of the labels."""
        self.path = path
        self._what = what
        self._file = path.open("wb")
        self._budget_bytes = shutil.disk_usage(path.parent).free // 2 // (inputs + 1)
        self._count = 0
        self._shape: tuple[int, ...] = ()
        self._dtype: np.dtype[Any] | None = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def append(self, block: NDArray[Any]) -> None:
        """Add the rows of `block`, [n, …].

        Raises:
            DataError: not numbers, another shape or dtype than the rows before, or too much for the disk.
        """
        if block.dtype.kind not in "biuf":
            raise DataError(f"{self._what} are {block.dtype}", "give arrays of numbers")
        if self._dtype is None:
            self._dtype, self._shape = block.dtype, block.shape[1:]
        if (block.dtype, block.shape[1:]) != (self._dtype, self._shape):
            raise DataError(
                f"{self._what}: sample {self._count} is {block.dtype} {list(block.shape[1:])}, "
                f"those before it {self._dtype} {list(self._shape)}",
                "give every sample one dtype and one size: pad, crop or resize them",
            )
        self._budget_bytes -= block.nbytes
        if self._budget_bytes < 0:
            raise DataError(
                f"{self._what} would fill the disk: {self._count} samples, and more to come",
                "end the data (dataset.take(500)), or free some space",
            )
        self._file.write(np.ascontiguousarray(block).tobytes())
        self._count += len(block)

    def rows(self) -> FileRows:
        """What was written.

        Raises:
            DataError: nothing was.
        """
        self._file.close()
        if self._dtype is None:
            raise DataError(
                f"{self._what} hold no sample", "give at least one; 100 or more is usual"
            )
        return FileRows(path=self.path, dtype=self._dtype, shape=(self._count, *self._shape))


def copy_member(stream: Any, size_bytes: int, path: Path, what: str) -> None:
    """Write what `stream` holds to `path`.

    Raises:
        DataError: it is more than the disk takes.
    """
    free = shutil.disk_usage(path.parent).free
    if size_bytes > free:
        raise DataError(
            f"{what} unpacks to {size_bytes:,} bytes; the disk has {free:,} free",
            "free some space, or give fewer samples",
        )
    with path.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
        file.flush()
    if os.path.getsize(path) != size_bytes:
        raise DataError(f"{what} is not as long as the archive says", "write the file again")
