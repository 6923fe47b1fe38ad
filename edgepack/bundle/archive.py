"""One `.edgepack` file for a bundle, and back: a ZIP archive that any tool opens, but only of the one form that `pack` writes.

Nothing is unpacked that was not looked at: names, kinds, sizes and places of all entries first, then the manifest, which says what there
may be and how large it is; then the bytes, into a folder aside, each file's hash held against the manifest's before the folder is put
in place.
"""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from edgepack.bundle.open import check_files, load_manifest
from edgepack.bundle.zipformat import LIMIT, MODE, Entry, directory, end_of, header
from edgepack.errors import BundleError, ModelError, OutputError
from edgepack.intake.vet.zip_entries import open_zip
from edgepack.names import bundle_name
from edgepack.trust.rules import rules
from edgepack.workspace import publish, refuse_existing, workspace

SUFFIX = ".edgepack"
#: Of manifest and signature, which nothing vouches for before they are read: the rules' own bound.
_JSON_BYTES = 64 << 20
_BLOCK = 1 << 20
_SHOWN = 10
_AGAIN = "pack it again; if it comes from somebody else, do not use it"


def pack(bundle: str | Path, archive: str | Path | None = None, *, overwrite: bool = False) -> Path:
    """Write a bundle as one file, and give its place; the same bundle gives the same bytes.

    Args:
        archive: `BUNDLE.edgepack` beside the bundle's folder, if not given.

    Raises:
        BundleError: it is no bundle, or not as it was built. OutputError: the file is there already, or cannot be written.
    """
    root = Path(bundle)
    manifest = load_manifest(root)
    check_files(root, manifest)
    absolute = root.absolute()
    place = Path(archive) if archive is not None else absolute.parent / f"{absolute.name}{SUFFIX}"
    if place.resolve().is_relative_to(root.resolve()):
        raise OutputError(f"{place} lies in the bundle itself", "choose another --output")
    refuse_existing([place], overwrite=overwrite)
    names = sorted([MANIFEST, *(f.path for f in manifest.files)])
    if (root / SIGNATURE).exists():
        names = sorted([*names, SIGNATURE])
    _require_sound(names, root)
    with workspace(place.absolute().parent) as folder:
        aside = folder / "archive"
        with aside.open("wb") as file:
            write(file, root, names)
        publish([(aside, place)], aside=folder)
    return place


def write(file: BinaryIO, root: Path, names: list[str], limit: int = LIMIT) -> None:
    """Write the files `names` below `root` to `file`, which begins at 0, in that order."""
    entries: list[Entry] = []
    for name in names:
        offset, crc, size = file.tell(), 0, (root / name).stat().st_size
        file.write(header(Entry(name=name, size=size, crc=0, offset=offset), limit))
        with (root / name).open("rb") as source:
            while block := source.read(_BLOCK):
                crc = zlib.crc32(block, crc)
                file.write(block)
        end = file.tell()
        entry = Entry(name=name, size=size, crc=crc, offset=offset)
        if end - offset - len(header(entry, limit)) != size:
            raise BundleError(f"{root / name} changed while it was packed", "pack it again")
        file.seek(offset)
        file.write(header(entry, limit))
        file.seek(end)
        entries.append(entry)
    file.write(directory(entries, limit))


def unpack(
    archive: str | Path, folder: str | Path | None = None, *, overwrite: bool = False
) -> Path:
    """Put the bundle in a file that `pack` wrote into a folder, and give its place. All of it is there at the end, or nothing.

    Args:
        folder: the bundle's own folder; `APP-TARGET` in the working folder, if not given.

    Raises:
        BundleError: the file is not what `pack` writes, or not what its manifest says. OutputError: the folder is there already, or
            cannot be written.
    """
    path = Path(archive)
    try:
        with path.open("rb") as file:
            entries = read_entries(path, file)
            manifest = _manifest(path, file, entries)
            name = bundle_name(manifest.release.app, manifest.target.name)
            place = Path(folder) if folder is not None else Path(name)
            refuse_existing([place], overwrite=overwrite)
            with workspace(place.absolute().parent) as scratch:
                aside = scratch / "bundle"
                aside.mkdir()
                _extract(path, file, entries, manifest, aside)
                publish([(aside, place)], aside=scratch)
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}", "check who may read it") from error
    return place


def read_entries(path: Path, file: BinaryIO, limit: int = LIMIT) -> list[Entry]:
    """All entries of an archive, in the order in which they lie; nothing but headers is read.

    Raises:
        BundleError: names every entry that may not be, or says where the archive is not of the form that `pack` writes.
    """
    try:
        with open_zip(path) as archive:
            infos = archive.infolist()
    except ModelError as error:
        raise BundleError(error.cause, _AGAIN) from error
    faults = [fault for info in infos for fault in _faults(info)]
    faults += _collisions([info.orig_filename for info in infos])
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise BundleError(
            f"{path} has entries that no bundle has: {'; '.join(faults[:_SHOWN])}{more}", _AGAIN
        )
    entries = [
        Entry(name=i.orig_filename, size=i.file_size, crc=i.CRC, offset=i.header_offset)
        for i in infos
    ]
    _require_layout(path, file, entries, limit)
    return entries


def _faults(info: zipfile.ZipInfo) -> Iterator[str]:
    # zipfile cuts names at NUL; the name as written is what others may see.
    name = info.orig_filename
    shown = repr(name if len(name) <= 80 else f"{name[:80]}…")
    if fault := rules().path_fault(name):
        yield f"{shown} {fault}"
    mode = info.external_attr >> 16
    if stat.S_ISLNK(mode):
        yield f"{shown} is a symlink"
    elif mode != MODE:
        kind = "a folder" if stat.S_ISDIR(mode) else f"of mode {mode:o}"
        yield f"{shown} is {kind}, no regular file of mode {MODE:o}"
    if info.flag_bits & 1:
        yield f"{shown} is encrypted"
    if info.compress_type != zipfile.ZIP_STORED:
        yield f"{shown} is compressed"
    if info.file_size != info.compress_size:
        yield f"{shown} is stored in {info.compress_size} bytes and would have {info.file_size}"


def _collisions(names: list[str]) -> Iterator[str]:
    seen: dict[str, str] = {}
    folders: set[str] = set()
    for name in names:
        same = rules().folded(name)
        if same in seen:
            yield f"{name!r} is there twice (as {seen[same]!r})"
        seen[same] = name
        parts = same.split("/")
        folders |= {"/".join(parts[:i]) for i in range(1, len(parts))}
    yield from (f"{seen[f]!r} is a file and a folder" for f in sorted(folders & seen.keys()))


def _require_sound(names: list[str], root: Path) -> None:
    faults = [f"{n!r} {fault}" for n in names if (fault := rules().path_fault(n))]
    faults += _collisions(names)
    if faults:
        raise BundleError(
            f"{root} cannot be packed for every system: {'; '.join(faults)}",
            "build it with other names",
        )


def _require_layout(path: Path, file: BinaryIO, entries: list[Entry], limit: int) -> None:
    """The file must be, but for the bytes of its entries, what `write` would have written for them."""
    at = 0
    for entry in entries:
        expected = header(entry, limit)
        if entry.offset != at:
            raise BundleError(
                f"{path}: {entry.name!r} begins at byte {entry.offset}, not {at}: entries overlap, or something lies between them",
                _AGAIN,
            )
        file.seek(at)
        if file.read(len(expected)) != expected:
            raise BundleError(
                f"{path}: the header of {entry.name!r} at byte {at} is not what the directory says",
                _AGAIN,
            )
        at += len(expected) + entry.size
    expected = directory(entries, limit)
    size = file.seek(0, os.SEEK_END)
    start = end_of(entries, limit)
    file.seek(min(start, size))
    if size != start + len(expected) or file.read(len(expected)) != expected:
        raise BundleError(
            f"{path}: its directory is not one that edgepack writes: it is cut off, has something added, or was made by another program",
            _AGAIN,
        )


def _manifest(path: Path, file: BinaryIO, entries: list[Entry]) -> Manifest:
    """The archive's manifest, once it lists what the archive holds."""
    by_name = {e.name: e for e in entries}
    for name in (MANIFEST, SIGNATURE):
        if name in by_name and by_name[name].size > _JSON_BYTES:
            raise BundleError(
                f"{path}: {name} has {by_name[name].size} bytes, more than {_JSON_BYTES}", _AGAIN
            )
    if MANIFEST not in by_name:
        raise BundleError(f"{path} has no {MANIFEST}", "give a file that `edgepack pack` wrote")
    entry = by_name[MANIFEST]
    text = b"".join(_blocks(file, entry))
    if zlib.crc32(text) != entry.crc:
        raise BundleError(f"{path}: {MANIFEST} is damaged (its CRC-32 differs)", _AGAIN)
    manifest = Manifest.from_json(text, place=path / MANIFEST)
    listed = {f.path: f.size for f in manifest.files}
    wrong = [
        f"{name} is not in the manifest"
        for name in sorted(by_name.keys() - listed.keys() - {MANIFEST, SIGNATURE})
    ]
    for name, size in listed.items():
        if name not in by_name:
            wrong.append(f"{name} is missing")
        elif by_name[name].size != size:
            wrong.append(f"{name} has {by_name[name].size} bytes, not {size}")
    if wrong:
        raise BundleError(f"{path} is not as it was packed: {'; '.join(wrong[:_SHOWN])}", _AGAIN)
    return manifest


def _extract(
    path: Path, file: BinaryIO, entries: list[Entry], manifest: Manifest, folder: Path
) -> None:
    digests = {f.path: f.sha256 for f in manifest.files}
    zeros = bytes(_BLOCK)
    for entry in entries:
        place = folder / entry.name
        place.parent.mkdir(parents=True, exist_ok=True)
        digest, crc = sha256(), 0
        with place.open("xb") as target:
            for block in _blocks(file, entry):
                digest.update(block)
                crc = zlib.crc32(block, crc)
                # Zeros stay a hole, as they are in files that were made with room to spare.
                if block == zeros:
                    target.seek(len(block), os.SEEK_CUR)
                else:
                    target.write(block)
            target.truncate(entry.size)
        expected = digests.get(entry.name, digest.hexdigest())
        if crc != entry.crc or digest.hexdigest() != expected:
            raise BundleError(
                f"{path}: {entry.name} was changed (its {'CRC-32' if crc != entry.crc else 'SHA-256'} differs)",
                _AGAIN,
            )


def _blocks(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """The entry's bytes, which `_require_layout` saw to lie within the file."""
    file.seek(entry.offset + len(header(entry)))
    left = entry.size
    while left:
        block = file.read(min(left, _BLOCK))
        if not block:
            raise BundleError(f"{entry.name} is cut off", _AGAIN)
        left -= len(block)
        yield block
