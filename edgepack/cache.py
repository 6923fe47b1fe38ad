"""Results that are worth keeping between two runs, by the digest of all they depend on.

A cache is never needed: what cannot be read or is damaged is made again, what cannot be written is not kept.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

#: A folder for the cache, in place of the user's own; empty: keep nothing.
VARIABLE = "EDGEPACK_CACHE"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Bytes by key below `folder`, each file with their SHA-256 before them; None keeps nothing."""

    folder: Path | None

    def load(self, key: str) -> bytes | None:
        """What was stored under `key` (64 hex digits), if anything, to the bit."""
        if self.folder is None:
            return None
        try:
            kept = self._place(self.folder, key).read_bytes()
        except OSError:
            return None
        digest, data = kept[:_DIGEST_BYTES], kept[_DIGEST_BYTES:]
        return data if hashlib.sha256(data).digest() == digest else None

    def store(self, key: str, data: bytes) -> None:
        """Keep `data` under `key`: whole, or not at all."""
        if self.folder is None:
            return
        place = self._place(self.folder, key)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, part = tempfile.mkstemp(dir=place.parent, prefix=".part-")
        except OSError:
            return
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(data).digest() + data)
            os.replace(part, place)
        except OSError:
            Path(part).unlink(missing_ok=True)

    @staticmethod
    def _place(folder: Path, key: str) -> Path:
        return folder / key[:2] / key[2:]


def user_cache() -> Cache:
    """The user's cache, or the folder that EDGEPACK_CACHE names."""
    chosen = os.environ.get(VARIABLE)
    if chosen is not None:
        return Cache(folder=Path(chosen) if chosen else None)
    return Cache(folder=user_cache_path("edgepack", appauthor=False))
