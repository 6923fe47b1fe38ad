"""A .keras archive that may be handed to Keras: its entries, its configuration, its weights' place. Standard library only."""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

from edgepack.errors import ModelError
from edgepack.intake.vet.keras_config import CONFIG_BYTES, FIX, vet_keras_config
from edgepack.intake.vet.zip_entries import entry_faults, open_zip

_WEIGHTS = ("model.weights.h5", "model.weights.npz")
_SHOWN = 10


def vet_keras_archive(path: Path, *, trusted: bool = False) -> None:
    """Nothing, if Keras may open the archive; the HDF5 file in it still wants `hdf5.vet_archive_weights`, in the child.

    Args:
        trusted: its configuration may ask for what it likes.

    Raises:
        ModelError: it is damaged, an entry is not what Keras writes, or its configuration asks for more than a model.
    """
    with open_zip(path) as archive:
        faults = list(entry_faults(archive, path.stat().st_size))
        if faults:
            more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise ModelError(
                f"{path} is no archive that Keras writes: {'; '.join(faults[:_SHOWN])}{more}",
                "save the model again; if it comes from somebody else, do not load it",
            )
        names = set(archive.namelist())
        missing = [n for n in ("config.json", "metadata.json") if n not in names]
        if not names & set(_WEIGHTS):
            missing.append(_WEIGHTS[0])
        if missing:
            raise ModelError(
                f"{path} lacks {', '.join(missing)}",
                "save the whole model again: model.save('model.keras')",
            )
        _metadata(archive, path)
        text = _read(archive, path, "config.json")
        vet_keras_config(text, path, "config.json", trusted=trusted)


def _metadata(archive: zipfile.ZipFile, path: Path) -> None:
    try:
        data = json.loads(_read(archive, path, "metadata.json"))
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ModelError(f"{path}: metadata.json is no JSON object", "save the model again")


def _read(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    size = archive.getinfo(name).file_size
    if size > CONFIG_BYTES:
        raise ModelError(f"{path}: {name} has {size} bytes, more than {CONFIG_BYTES}", FIX)
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError) as error:
        raise ModelError(
            f"{path}: {name} is damaged: {error}", "copy or save the file again"
        ) from error
