"""A zip archive whose entries can be trusted: opened with bounded memory, every entry looked at before one is read.

Sources: APPNOTE.TXT 6.3 (4.3.16 end of central directory, 4.3.14–15 ZIP64); keras 3.15 saving_lib, which extracts the whole
archive when it has more than three entries.
"""

from __future__ import annotations

import stat
import struct
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import ModelError

#: A .keras has three entries and some assets; a hundred thousand names are an attack on memory.
DIRECTORY_BYTES = 1 << 20
#: Keras stores uncompressed; deflate gets float weights down to a fifth, zeros to a thousandth.
_RATIO, _FREE_BYTES = 100, 256 << 20
_AGAIN = "copy or save the file again; if it comes from somebody else, do not trust it"


def open_zip(path: Path) -> zipfile.ZipFile:
    """The archive, its directory read.

    Raises:
        ModelError: it is cut short, damaged, or its directory is absurdly large.
    """
    try:
        with path.open("rb") as file:
            size = _directory_bytes(file)
        if size is None:
            raise ModelError(
                f"{path} begins like a zip archive but has no end: it is cut short", _AGAIN
            )
        if size > DIRECTORY_BYTES:
            raise ModelError(
                f"{path} has a directory of {size} bytes, more than {DIRECTORY_BYTES}", _AGAIN
            )
        return zipfile.ZipFile(path)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check who may read it") from error
    except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        raise ModelError(f"{path} is a damaged zip archive: {error}", _AGAIN) from error


def entry_faults(archive: zipfile.ZipFile, size_bytes: int) -> Iterator[str]:
    """What is wrong with the entries of an archive of `size_bytes`; nothing is read but its directory."""
    seen: set[str] = set()
    for info in archive.infolist():
        # zipfile cuts names at NUL and turns the system's separator; the name as written is what others may see.
        name = info.orig_filename
        if fault := _name_fault(name):
            yield f"{name!r} {fault}"
        same = unicodedata.normalize("NFC", name).casefold()
        if same in seen:
            yield f"{name!r} is there twice"
        seen.add(same)
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            yield f"{name!r} is a {'symlink' if kind == stat.S_IFLNK else 'special file'}"
        if info.flag_bits & 1:
            yield f"{name!r} is encrypted"
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            yield f"{name!r} is compressed by method {info.compress_type}, not stored or deflated"
        if info.header_offset + info.compress_size > size_bytes:
            yield f"{name!r} reaches past the end of the file"
        if info.file_size > max(_FREE_BYTES, _RATIO * info.compress_size):
            yield f"{name!r} would unpack from {info.compress_size} to {info.file_size} bytes"
    total = sum(info.file_size for info in archive.infolist())
    if total > max(_FREE_BYTES, _RATIO * size_bytes):
        yield f"its entries would unpack from {size_bytes} to {total} bytes"


def _name_fault(name: str) -> str | None:
    if "\\" in name:
        return "has a backslash"
    if name.startswith("/") or name[1:2] == ":":
        return "is an absolute path"
    if ".." in name.split("/"):
        return "leads out of the archive"
    if not name.isprintable() or len(name) > 1024:
        return "is no name of a file"
    return None


def _directory_bytes(file: BinaryIO) -> int | None:
    """Size of the central directory, as the archive's end says; None where there is no end."""
    size = file.seek(0, 2)
    start = max(0, size - 22 - 0xFFFF)
    file.seek(start)
    tail = file.read()
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < 22:
        return None
    (directory,) = struct.unpack_from("<L", tail, at + 12)
    if directory == 0xFFFFFFFF and at >= 20 and tail[at - 20 : at - 16] == b"PK\x06\x07":
        (end64,) = struct.unpack_from("<Q", tail, at - 12)
        if end64 > size - 56:
            return None
        file.seek(end64 + 40)
        (directory,) = struct.unpack("<Q", file.read(8))
    return int(directory)
