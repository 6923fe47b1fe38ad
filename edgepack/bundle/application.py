"""A Python application in one file, for whoever has a bare Python: `python3 -I NAME.pyz`.

Source: PEP 441: a ZIP archive with `__main__.py` in it; the first line of a script (`#!`) may stand before it and does not here.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

from edgepack.bundle.zipformat import Entry, directory, header


def application(sources: Sequence[Path]) -> bytes:
    """The application made of the Python files `sources`; of a folder, all that are below it, by their place in it.

    The same files give the same bytes: sorted, stored, of 1980 and mode 0644.
    """
    files = {name: path.read_bytes() for name, path in _files(sources)}
    entries: list[Entry] = []
    archive = bytearray()
    for name in sorted(files):
        text = files[name]
        entry = Entry(name=name, size=len(text), crc=zlib.crc32(text), offset=len(archive))
        archive += header(entry) + text
        entries.append(entry)
    return bytes(archive + directory(entries))


def _files(sources: Sequence[Path]) -> list[tuple[str, Path]]:
    found: list[tuple[str, Path]] = []
    for source in sources:
        if source.is_dir():
            found += [(p.relative_to(source).as_posix(), p) for p in source.rglob("*.py")]
        else:
            found.append((source.name, source))
    return found
