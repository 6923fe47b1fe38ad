"""The bytes of a ZIP archive that holds files as they are: what stands before each file, and the directory at the end.

One form only: entries without gaps, stored, names in UTF-8, regular files of mode 0644, 1980-01-01, no comments; ZIP64 where a size or
place needs it. What is told so has one spelling, so that an archive can be compared with what it should be, byte for byte.

Source: APPNOTE.TXT 6.3.10 (4.3.7 local header, 4.3.12 central directory, 4.3.14–16 its end, 4.5.3 ZIP64).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

#: Sizes and places from here on are written in ZIP64's fields.
LIMIT = 0xFFFFFFFF
#: Unix, so that the mode counts; ZIP 2.0, or 4.5 with ZIP64.
_UNIX, _PLAIN, _ZIP64 = 3 << 8, 20, 45
_UTF8 = 0x800
_STORED = 0
#: 1980-01-01 00:00, the first there is: bits 5–8 the month, 0–4 the day.
_TIME, _DATE = 0, 1 << 5 | 1
#: A regular file, rw-r--r--.
MODE = 0o100644


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One file in an archive: its name, size, CRC-32, and where its header begins."""

    name: str
    size: int
    crc: int
    offset: int


def header(entry: Entry, limit: int = LIMIT) -> bytes:
    """What stands before the file's bytes."""
    name = entry.name.encode()
    large = entry.size >= limit
    extra = struct.pack("<HHQQ", 1, 16, entry.size, entry.size) if large else b""
    size = LIMIT if large else entry.size
    fixed = struct.pack(
        "<4s5H3L2H",
        b"PK\x03\x04",
        _ZIP64 if large else _PLAIN,
        _UTF8,
        _STORED,
        _TIME,
        _DATE,
        entry.crc,
        size,
        size,
        len(name),
        len(extra),
    )
    return fixed + name + extra


def directory(entries: Sequence[Entry], limit: int = LIMIT) -> bytes:
    """What stands after the last file: the central directory and its end.

    Args:
        entries: in the order in which they lie in the archive.
    """
    start = end_of(entries, limit)
    records = b"".join(_record(e, limit) for e in entries)
    count = len(entries)
    tail = b""
    if start >= limit or len(records) >= limit or count >= 0xFFFF:
        tail = struct.pack(
            "<4sQ2H2L4Q",
            b"PK\x06\x06",
            44,
            _UNIX | _ZIP64,
            _ZIP64,
            0,
            0,
            count,
            count,
            len(records),
            start,
        )
        tail += struct.pack("<4sLQL", b"PK\x06\x07", 0, start + len(records), 1)
        start, count = LIMIT, 0xFFFF
    size = LIMIT if len(records) >= limit else len(records)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, size, start, 0)
    return records + tail + end


def end_of(entries: Sequence[Entry], limit: int = LIMIT) -> int:
    """Where the last file ends."""
    if not entries:
        return 0
    last = entries[-1]
    return last.offset + len(header(last, limit)) + last.size


def _record(entry: Entry, limit: int) -> bytes:
    name = entry.name.encode()
    size, offset, wide = entry.size, entry.offset, b""
    if size >= limit:
        wide += struct.pack("<QQ", size, size)
        size = LIMIT
    if offset >= limit:
        wide += struct.pack("<Q", offset)
        offset = LIMIT
    extra = struct.pack("<HH", 1, len(wide)) + wide if wide else b""
    version = _ZIP64 if extra else _PLAIN
    fixed = struct.pack(
        "<4s6H3L5H2L",
        b"PK\x01\x02",
        _UNIX | version,
        version,
        _UTF8,
        _STORED,
        _TIME,
        _DATE,
        entry.crc,
        size,
        size,
        len(name),
        len(extra),
        0,
        0,
        0,
        MODE << 16,
        offset,
    )
    return fixed + name + extra
