"""An HDF5 file that may be handed to Keras: all its links, data sets and its configuration. Needs h5py: the child's.

Sources: HDF5 1.14 (links, external storage, virtual data sets, filters: identifiers below 256 are the library's own, others are
loaded from shared libraries); keras 3.15 `saving_lib.safe_get_h5_dataset`, which checks the same data set by data set and only above
4 GiB (CVE-2026-0897, CVE-2026-1669: external links and data sets that read local files, and shapes that fill the memory).
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any, BinaryIO

from edgepack.errors import ModelError
from edgepack.intake.vet.keras_config import CONFIG_BYTES, FIX, vet_keras_config

#: gzip, shuffle, fletcher32, szip, n-bit, scale-offset, and lzf, which h5py brings along.
_FILTERS = frozenset({1, 2, 3, 4, 5, 6, 32000})
#: A model of 10 000 layers has less.
_OBJECTS = 200_000
#: As Keras' own guard, with a lower floor: untrained zeros compress well, but not for long.
_RATIO, _FREE_BYTES = 1000, 64 << 20
_SHOWN, _MOST = 10, 1000


def vet_hdf5(path: Path, *, trusted: bool = False) -> None:
    """Nothing, if Keras may open the file.

    Raises:
        ModelError: it is damaged, leads out of itself, would fill the memory, has no architecture, or its configuration asks for more than
            a model.
    """
    with path.open("rb") as file:
        config = _vetted_config(file, path, path.stat().st_size)
    vet_keras_config(config, path, "model_config", trusted=trusted)


def vet_archive_weights(path: Path) -> None:
    """Nothing, if Keras may open the weights in the .keras archive at `path`.

    Raises:
        ModelError: as `vet_hdf5`, of model.weights.h5.
    """
    with zipfile.ZipFile(path) as archive:
        name = "model.weights.h5"
        if name in archive.namelist():
            info = archive.getinfo(name)
            if info.compress_type == zipfile.ZIP_STORED:
                with path.open("rb") as file:
                    vet_weights(_Part(file, info), path, info.file_size)
            else:
                # As Keras does; its size was weighed against the archive's. zipfile seeks backwards by starting over.
                vet_weights(io.BytesIO(archive.read(name)), path, info.file_size)


class _Part(io.RawIOBase):
    """A stored entry of a zip archive, read where it lies: zipfile's own reader seeks by reading from the start."""

    def __init__(self, file: BinaryIO, info: zipfile.ZipInfo) -> None:
        file.seek(info.header_offset)
        # APPNOTE.TXT 4.3.7: 30 bytes, then the name and the extra field, whose lengths stand at 26.
        name, extra = struct.unpack_from("<HH", file.read(30).ljust(30, b"\0"), 26)
        self._file, self._size, self._at = file, info.file_size, 0
        self._start = info.header_offset + 30 + name + extra

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        self._file.seek(self._start + self._at)
        data = self._file.read(max(0, min(len(buffer), self._size - self._at)))
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


def vet_weights(file: IO[bytes] | io.RawIOBase, path: Path, size_bytes: int) -> None:
    """Nothing, if the HDF5 file that `file` reads has weights alone; `path` is for messages.

    Raises:
        ModelError: it is damaged, leads out of itself, or would fill the memory.
    """
    _check(file, path, size_bytes, lambda root: None)


def _vetted_config(file: IO[bytes], path: Path, size_bytes: int) -> str:
    config: str = _check(file, path, size_bytes, lambda root: _model_config(root, path))
    return config


def _check(file: IO[bytes] | io.RawIOBase, path: Path, size_bytes: int, then: Any) -> Any:
    import h5py

    try:
        # Through a Python file: no other file's name can be resolved against this one's folder.
        with h5py.File(file, "r") as root:
            faults = list(islice(_faults(root, size_bytes), _MOST))
            if not faults:
                return then(root)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{path} is a damaged HDF5 file (cut short?): {words}", "copy or save it again"
        ) from error
    more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    raise ModelError(
        f"{path} is no HDF5 file that Keras writes: {'; '.join(faults[:_SHOWN])}{more}", FIX
    )


def _faults(root: Any, size_bytes: int) -> Iterator[str]:
    """Walks every link once, following none that leads elsewhere."""
    import h5py

    stack, seen, total = [("", root)], {_address(root)}, 0
    while stack:
        place, group = stack.pop()
        for name in group:
            where = f"{place}/{name}"
            link = _link(group, name)
            if link != "hard":
                yield f"{where[:200]} is {link}"
                continue
            item = group[name]
            if (address := _address(item)) in seen:
                continue
            seen.add(address)
            if len(seen) > _OBJECTS:
                yield f"more than {_OBJECTS} groups and data sets"
                return
            if isinstance(item, h5py.Group):
                stack.append((where, item))
            elif isinstance(item, h5py.Dataset):
                total += math.prod(item.shape or ()) * item.dtype.itemsize
                yield from (f"{where[:200]} {fault}" for fault in _dataset_faults(item))
    if total > max(_FREE_BYTES, _RATIO * size_bytes):
        yield f"its data sets declare {total} bytes, the file has {size_bytes}"


def _link(group: Any, name: str) -> str:
    """`hard`, or what else the link is."""
    import h5py

    try:
        link = group.get(name, getlink=True)
    except TypeError:  # a user-defined kind
        return "a link of an unknown kind"
    if isinstance(link, h5py.ExternalLink):
        return f"an external link to {link.filename[:200]!r}"
    if isinstance(link, h5py.SoftLink):
        return f"a soft link to {link.path[:200]!r}"
    return "hard"


def _address(item: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(item.id).addr)


def _dataset_faults(data: Any) -> Iterator[str]:
    plist = data.id.get_create_plist()
    if plist.get_external_count():
        name = plist.get_external(0)[0].decode("utf-8", "replace")
        yield f"has its data in another file, {name[:200]!r}"
    if data.is_virtual:
        yield "is a virtual data set, put together from other files"
        return
    filters = {plist.get_filter(i)[0] for i in range(plist.get_nfilters())} - _FILTERS
    if filters:
        yield f"needs the filter {min(filters)}, which HDF5 would load as a plug-in"
    declared, stored = math.prod(data.shape or ()) * data.dtype.itemsize, data.id.get_storage_size()
    if declared > max(_FREE_BYTES, _RATIO * stored):
        yield f"declares {declared} bytes (shape {list(data.shape)}), {stored} are stored"


def _model_config(root: Any, path: Path) -> str:
    """The architecture, which only files written by model.save have."""
    import h5py

    names = set(root.attrs)
    if "model_config" not in names:
        if names & {"layer_names", "backend"} or {"layers", "_layer_checkpoint_dependencies"} & set(
            root
        ):
            raise ModelError(
                f"{path} has weights only (save_weights): the architecture, model_config, is missing",
                "build the model in code, model.load_weights(this file), then model.save('model.keras') and give that",
            )
        raise ModelError(
            f"{path} is an HDF5 file, but no Keras model: model_config is missing",
            "save the model with model.save('model.keras')",
        )
    attribute = h5py.h5a.open(root.id, b"model_config")
    if attribute.shape != () or attribute.get_storage_size() > CONFIG_BYTES:
        raise ModelError(f"{path}: model_config is no text of at most {CONFIG_BYTES} bytes", FIX)
    value = root.attrs["model_config"]
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    if not isinstance(text, str):
        raise ModelError(f"{path}: model_config is no text but {type(text).__name__}", FIX)
    return text
