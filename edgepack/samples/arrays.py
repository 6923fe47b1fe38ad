"""Arrays on disk: .npy and .npz, read a few rows at a time."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.errors import DataError, EdgepackError
from edgepack.samples.rows import FileRows, Rows
from edgepack.samples.spool import copy_member

#: What an array of labels is called in a .npz or a mapping, the first that is no input.
LABEL_NAMES = ("labels", "label", "y")
_ZIP, _NPY = b"PK", b"\x93NUMPY"


def read_arrays(path: Path, folder: Path) -> dict[str, Rows]:
    """The arrays in a .npz file by name, or the one in a .npy file under "".

    A .npz's members are unpacked into `folder`, which must live as long as the rows: an archive cannot be read from its middle.

    Raises:
        DataError: damaged, pickled, or of another kind.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(len(_NPY))
        if magic == _NPY:
            return {"": _npy_rows(path)}
        if not magic.startswith(_ZIP):
            raise ValueError("it begins like neither")
        arrays = _npz_rows(path, folder)
    except EdgepackError:
        raise
    except Exception as error:  # numpy, zipfile, zlib and tokenize have their own for damaged files
        raise DataError(
            f"{path}: not a .npz or .npy of plain arrays ({error})",
            "write it with np.savez(file, **{input_name: array}), array of shape [N, …]; "
            "or give a folder of images, a .csv, or module:function",
        ) from error
    if not arrays:
        raise DataError(f"{path}: holds no array", "save one per input")
    return arrays


def split_labels(
    arrays: Mapping[str, Rows], inputs: set[str]
) -> tuple[dict[str, Rows], Rows | None]:
    """The arrays for the inputs, and the labels among them if there are any."""
    rest = dict(arrays)
    for name in LABEL_NAMES:
        if name in rest and name not in inputs and len(rest) > 1:
            return rest, rest.pop(name)
    return rest, None


def _npy_rows(path: Path) -> Rows:
    # numpy checks the header, and that the file is as long as it says; the map itself is let go again.
    mapped: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    if not mapped.flags.c_contiguous:
        return mapped  # type: ignore[no-any-return]
    return FileRows(path=path, dtype=mapped.dtype, shape=mapped.shape, offset=mapped.offset)


def _npz_rows(path: Path, folder: Path) -> dict[str, Rows]:
    arrays: dict[str, Rows] = {}
    with zipfile.ZipFile(path) as archive:
        for k, member in enumerate(archive.infolist()):
            name = member.filename.removesuffix(".npy")
            if name in arrays:
                raise ValueError(f"{name} is there twice")
            unpacked = folder / f"{k}.npy"
            with archive.open(member) as stream:
                if stream.read(len(_NPY)) != _NPY:
                    raise ValueError(f"{name} is no array")
                stream.seek(0)
                copy_member(stream, member.file_size, unpacked, f"{path}: {name}")
            arrays[name] = _npy_rows(unpacked)
    return arrays
