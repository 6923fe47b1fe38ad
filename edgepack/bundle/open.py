"""Open a bundle on disk and check that every byte is the manifest's."""

from __future__ import annotations

import stat
from pathlib import Path

from edgepack.artifact import file_sha256
from edgepack.bundle.manifest import MANIFEST, SIGNATURE, Manifest
from edgepack.errors import BundleError


def load_manifest(bundle: Path) -> Manifest:
    """The manifest of the bundle in folder `bundle`.

    Raises:
        BundleError: no manifest there, or it is not valid.
    """
    path = Path(bundle) / MANIFEST
    try:
        text = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"{bundle} is no bundle: {MANIFEST}: {error.strerror}",
            "give the folder that `edgepack build` wrote",
        ) from error
    return Manifest.from_json(text, place=path)


def check_files(bundle: Path, manifest: Manifest) -> None:
    """Compare the files on disk with the manifest's: same set, same sizes, same hashes.

    Raises:
        BundleError: lists every extra, missing and changed file.
    """
    on_disk: set[str] = set()
    wrong: list[str] = []
    for path in sorted(bundle.rglob("*")):
        name = path.relative_to(bundle).as_posix()
        mode = path.lstat().st_mode
        if stat.S_ISREG(mode):
            on_disk.add(name)
        elif not stat.S_ISDIR(mode):
            wrong.append(f"{name} is not a regular file")
    listed = {f.path for f in manifest.files}
    extra = {n for n in on_disk - listed if n not in (MANIFEST, SIGNATURE)}
    wrong += [f"{n} is not in the manifest" for n in sorted(extra)]
    for file in manifest.files:
        path = bundle / file.path
        if file.path not in on_disk:
            wrong.append(f"{file.path} is missing")
        elif path.stat().st_size != file.size:
            wrong.append(f"{file.path} has {path.stat().st_size} bytes, not {file.size}")
        elif file_sha256(path) != file.sha256:
            wrong.append(f"{file.path} was changed (its SHA-256 differs)")
    if wrong:
        raise BundleError(
            f"{bundle} is not as it was built: {'; '.join(wrong)}", "build or copy it again"
        )
