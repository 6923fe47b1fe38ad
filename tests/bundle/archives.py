"""`.edgepack` files that are not what they say: each builder gives the bytes of one."""

from __future__ import annotations

import io
import json
import stat
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any

from edgepack.bundle.zipformat import MODE, Entry, directory, header

Files = dict[str, bytes]
#: 4 GiB and 4 KiB of zeros, whose digests take seconds to work out.
LARGE, LARGE_CRC = (4 << 30) + 4096, 0xB875D37F
LARGE_SHA256 = "5bc8222d078b1d6dab4a1d75403860f91afffe8a6944d469e496f553d296be3d"


def plain(files: Mapping[str, bytes], **changes: Any) -> bytes:
    """An archive as `pack` writes it, whatever its files are called."""
    data, entries = b"", []
    for name, content in files.items():
        entry = Entry(name=name, size=len(content), crc=zlib.crc32(content), offset=len(data))
        entries.append(entry)
        data += header(entry) + content
    return data + directory(entries)


def zipped(files: Files, *more: tuple[zipfile.ZipInfo, bytes]) -> bytes:
    """An archive by Python's zipfile, with entries of any kind."""
    file = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(file, "w") as archive:
        warnings.simplefilter("ignore")  # a duplicate name is meant
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = MODE << 16
            archive.writestr(info, content)
        for info, content in more:
            archive.writestr(info, content)
    return file.getvalue()


def special(name: str, mode: int, content: bytes = b"") -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = mode << 16
    return info, content


def listed(files: Files, name: str, content: bytes) -> Files:
    """The files with one more, which the manifest lists."""
    manifest = json.loads(files["manifest.json"])
    digest = sha256(content).hexdigest()
    entry = {"path": name, "size": len(content), "sha256": digest, "role": "doc"}
    manifest["files"] = [*manifest["files"], entry]
    return {**files, "manifest.json": json.dumps(manifest).encode(), name: content}


def relisted(files: Files, **changes: Any) -> Files:
    """The files with other fields in the manifest."""
    manifest = {**json.loads(files["manifest.json"]), **changes}
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def record_of(data: bytes, name: str) -> int:
    """Where an entry's record in the directory begins."""
    start = directory_of(data)
    return data.index(name.encode(), start) - 46


def directory_of(data: bytes) -> int:
    return int(struct.unpack_from("<L", data, len(data) - 22 + 16)[0])


def quoted_overlap(files: Files) -> bytes:
    """A second entry whose bytes are those of the first: a bomb without compression (Fifield's quoted overlap)."""
    inner = plain({"a": bytes(1000)})[: 30 + 1 + 1000]
    data = plain({**files, "z/outer": inner})
    at = data.index(inner)
    entries = parsed(data)
    entries.append(Entry(name="z/quoted", size=1000, crc=zlib.crc32(bytes(1000)), offset=at))
    return data[: directory_of(data)] + directory(entries)


def parsed(data: bytes) -> list[Entry]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return [
            Entry(name=i.filename, size=i.file_size, crc=i.CRC, offset=i.header_offset)
            for i in archive.infolist()
        ]


def bomb(files: Files) -> bytes:
    file = io.BytesIO(plain(files))
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model/bomb", bytes(50_000_000))
    return file.getvalue()


def lying_size(files: Files) -> bytes:
    """The directory says 4 GiB, the header the truth."""
    data = plain(files)
    at = record_of(data, "README.md")
    return patched(data, at + 20, struct.pack("<LL", 0xFFFFFFF0, 0xFFFFFFF0))


def zip64_mismatch(files: Files) -> bytes:
    """ZIP64's size and the other one differ; readers take one or the other."""
    data = plain(files)
    entries, start = parsed(data), directory_of(data)
    at = record_of(data, "README.md")
    name = len("README.md")
    extra = struct.pack("<HHQQ", 1, 16, 1 << 40, 1 << 40)
    record = data[at : at + 46 + name]
    record = patched(record, 30, struct.pack("<H", len(extra)))
    end = data[-22:]
    grown = data[start:at] + record + extra + data[at + 46 + name : -22]
    assert entries
    return data[:start] + grown + patched(end, 12, struct.pack("<L", len(grown)))


def two_directories(files: Files) -> bytes:
    """Two ends: readers that search forwards see another archive than those that search backwards."""
    return plain({"evil": b"x"}) + plain(files)


def changed(files: Files, name: str) -> bytes:
    """One byte of a file's content is another; the CRC-32 fits."""
    content = bytearray(files[name])
    content[len(content) // 2] ^= 1
    return plain({**files, name: bytes(content)})


def damaged(files: Files, name: str) -> bytes:
    """One byte of a file's content is another; the CRC-32 does not fit."""
    data = plain(files)
    entry = next(e for e in parsed(data) if e.name == name)
    at = entry.offset + len(header(entry)) + entry.size // 2
    return patched(data, at, bytes([data[at] ^ 1]))


def encrypted(files: Files) -> bytes:
    data = plain(files)
    at = record_of(data, "README.md")
    return patched(data, at + 8, b"\x01\x08")


def with_method(files: Files, method: int) -> bytes:
    data = plain(files)
    return patched(data, record_of(data, "README.md") + 10, struct.pack("<H", method))


def local_name(files: Files) -> bytes:
    """The header has another name than the directory: which one is written?"""
    data = plain(files)
    entry = next(e for e in parsed(data) if e.name == "README.md")
    return patched(data, entry.offset + 30, b"../../../")


def names(*paths: str) -> Callable[[Files], bytes]:
    return lambda files: plain({**files, **dict.fromkeys(paths, b"x")})


def kind(mode: int, says: str, content: bytes = b"/etc/passwd") -> tuple[Any, str]:
    return (lambda files: zipped(files, special("model/x", mode, content))), says


_MODEL = "model/tiny.onnx"
#: What is in the file, and what the refusal says.
ATTACKS: dict[str, tuple[Callable[[Files], bytes], str]] = {
    "path upwards": (names("../x"), "'../x' leads elsewhere"),
    "path upwards from within": (names("model/../../x"), "leads elsewhere"),
    "path upwards, listed": (lambda f: plain(listed(f, "../x", b"x")), "'../x' leads elsewhere"),
    "absolute path": (names("/etc/cron.d/x"), "'/etc/cron.d/x' is no relative path"),
    "drive letter": (names("C:\\x"), "has letters that are not legal"),
    "drive letter, forward": (names("C:/x"), "has letters that are not legal"),
    "backslashes upwards": (names("..\\x"), "has letters that are not legal"),
    "alternate stream": (names("README.md:x"), "has letters that are not legal"),
    "NUL in a name": (names("model/x\0.onnx"), "has letters that are not legal"),
    "newline in a name": (names("model/x\ny"), "has letters that are not legal"),
    "escape in a name": (names("model/\x1b[2J"), "has letters that are not legal"),
    "right-to-left in a name": (names("model/\u202egpj.exe"), "has letters that are not legal"),
    "name of 5 KB": (names("n" * 5000), "is too long"),
    "name that is empty": (names(""), "is no relative path"),
    "name of a dot": (names("./x"), "leads elsewhere"),
    "name of two slashes": (names("model//x"), "leads elsewhere"),
    "name that ends with a dot": (names("model/x."), "ends with a dot"),
    "folder": (names("model/"), "leads elsewhere"),
    "symlink": kind(stat.S_IFLNK | 0o777, "'model/x' is a symlink"),
    "symlink, then write through": (
        lambda f: zipped(
            f,
            special("link", stat.S_IFLNK | 0o777, b"/tmp"),
            special("link/x", MODE, b"written through"),
        ),
        "'link' is a symlink",
    ),
    "FIFO": kind(stat.S_IFIFO | 0o644, "no regular file"),
    "device": kind(stat.S_IFBLK | 0o666, "no regular file"),
    "socket": kind(stat.S_IFSOCK | 0o666, "no regular file"),
    "folder by mode": kind(stat.S_IFDIR | 0o755, "a folder"),
    "setuid": kind(stat.S_IFREG | 0o4755, "of mode 104755"),
    "executable": kind(stat.S_IFREG | 0o755, "of mode 100755"),
    "duplicate name": (
        lambda f: zipped(f, special("README.md", MODE, b"the second wins")),
        "'README.md' is there twice",
    ),
    "case collision": (names("readme.MD"), "'readme.MD' is there twice (as 'README.md')"),
    "NFC collision": (names("\u00e9", "e\u0301"), "is there twice"),
    "file that is a folder": (names("x", "x/y"), "'x' is a file and a folder"),
    "bomb": (bomb, "'model/bomb' is compressed"),
    "deflate": (lambda f: with_method(f, 8), "'README.md' is compressed"),
    "unknown method": (lambda f: with_method(f, 99), "'README.md' is compressed"),
    "encrypted": (encrypted, "'README.md' is encrypted"),
    "quoted overlap": (quoted_overlap, "entries overlap"),
    "size beyond the file": (lying_size, "the header of 'README.md'"),
    "ZIP64 mismatch": (zip64_mismatch, "directory"),
    "two archives in one": (two_directories, "entries overlap, or something lies between"),
    "something before": (lambda f: b"#!/bin/sh\n" + plain(f), "entries overlap, or something"),
    "something after": (lambda f: plain(f) + b"more", "directory"),
    "comment": (lambda f: plain(f)[:-2] + b"\x04\0more", "directory"),
    "truncated in a file": (lambda f: plain(f)[:300], "no end"),
    "truncated in the directory": (lambda f: plain(f)[:-30], "no end"),
    "truncated in its middle": (
        lambda f: plain(f)[:200] + plain(f)[400:],
        "",
    ),
    "another name in the header": (local_name, "the header of 'README.md'"),
    "empty file": (lambda f: b"", "no end"),
    "no archive": (lambda f: b"hello" * 100, "no end"),
    "directory of a megabyte and more": (
        lambda f: plain({**f, **{f"d/{i:090}": b"" for i in range(8000)}}),
        "a directory of",
    ),
    "no manifest": (lambda f: plain({"README.md": b"hi"}), "has no manifest.json"),
    "manifest that is none": (
        lambda f: plain({**f, "manifest.json": b"{}"}),
        "manifest.json: schema: Field required",
    ),
    "duplicate keys in the manifest": (
        lambda f: plain({**f, "manifest.json": b'{"schema":2,' + f["manifest.json"][1:]}),
        "'schema' is there twice",
    ),
    "newer manifest": (lambda f: plain(relisted(f, schema=2)), "schema 2"),
    "unlisted file": (names("model/extra.bin"), "model/extra.bin is not in the manifest"),
    "unlisted .git/x": (names(".git/x"), ".git/x is not in the manifest"),
    "missing file": (
        lambda f: plain({n: d for n, d in f.items() if n != _MODEL}),
        f"{_MODEL} is missing",
    ),
    "another size than listed": (
        lambda f: plain({**f, "README.md": b"longer" * 1000}),
        "README.md has 6000 bytes, not",
    ),
    "changed file": (lambda f: changed(f, _MODEL), f"{_MODEL} was changed (its SHA-256 differs)"),
    "damaged file": (lambda f: damaged(f, _MODEL), f"{_MODEL} was changed (its CRC-32 differs)"),
    "damaged manifest": (lambda f: damaged(f, "manifest.json"), "manifest.json is damaged"),
}
