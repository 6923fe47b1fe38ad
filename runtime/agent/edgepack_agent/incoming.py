"""What a release needs that is not on the board yet, and what has arrived of it."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from typing import Any, NamedTuple

import edgepack_trust
from edgepack_agent import durable, releases
from edgepack_agent.papers import Papers
from edgepack_agent.places import Places
from edgepack_trust import Refusal

_PART = ".part"
_NAME = re.compile(r"([0-9a-f]{64})(\.part)?")


class Plan(NamedTuple):
    """Where a release's files come from.

    Attributes:
        sources: the file that has the content, by its SHA-256: in another release, or arrived whole.
        missing: bytes by SHA-256 of what nobody has.
        offsets: how many of these bytes have arrived.
        stale: paths in `incoming/` that nobody will ask for, and releases that were staged once and never used.
    """

    sources: dict[str, str]
    missing: dict[str, int]
    offsets: dict[str, int]
    stale: list[str]

    def bytes_to_write(self, papers: Papers, places: Places) -> int:
        """The disk space that upload and staging take, beyond what clearing away gives back."""
        uploads = sum(size - self.offsets.get(sha, 0) for sha, size in self.missing.items())
        seen: set[str] = set()
        copies = 0
        for file in papers.manifest["files"]:
            source = self.sources.get(file["sha256"], places.incoming + "/")
            arrived = os.path.dirname(source) == places.incoming
            if not arrived or file["sha256"] in seen:
                copies += file["size"]
            seen.add(file["sha256"])
        freed = sum(_space(path) for path in self.stale)
        return max(0, uploads + copies - freed)


def plan(places: Places, papers: Papers) -> Plan:
    """What is there, by the hash of what really lies there, and what is missing. Nothing is written."""
    sizes = papers.sizes()
    used = [releases.linked(places.current), releases.linked(places.previous), papers.name]
    candidates = _candidates(places, used)
    sources: dict[str, str] = {}
    offsets: dict[str, int] = {}
    stale: list[str] = []
    for entry in durable.names(places.incoming):
        path = os.path.join(places.incoming, entry)
        match = _NAME.fullmatch(entry)
        size = _size(path)
        wanted = sizes.get(match.group(1)) if match else None
        if match is None or size is None or wanted is None or size > wanted:
            stale.append(path)
        elif match.group(2):
            offsets[match.group(1)] = size
        elif _is(path, match.group(1), wanted):
            sources[match.group(1)] = path
        else:
            stale.append(path)
    for sha256, size in sizes.items():
        for path in candidates.get(sha256, []):
            if sha256 not in sources and _is(path, sha256, size):
                sources[sha256] = path
    missing = {sha256: size for sha256, size in sizes.items() if sha256 not in sources}
    stale += [_part(places, sha) for sha in offsets if sha not in missing]
    for name in set(releases.names(places)) - set(used):
        folder = places.release(name)
        if not any(path.startswith(folder + os.sep) for path in sources.values()):
            stale.append(folder)
    return Plan(sources, missing, {s: n for s, n in offsets.items() if s in missing}, stale)


def prepare(places: Places, planned: Plan) -> list[dict[str, Any]]:
    """What to ask the host for; `incoming/` is there, and what is of no use in it is gone."""
    durable.make_folder(places.incoming)
    for path in planned.stale:
        if os.path.dirname(path) == places.releases:
            releases.remove(places, os.path.basename(path))
        else:
            durable.remove(path)
    return [_need(places, sha, size) for sha, size in sorted(planned.missing.items())]


def take(places: Places, planned: Plan) -> list[dict[str, Any]]:
    """What is still missing after an upload; what arrived whole is in `planned.sources` now, synced.

    A file whose bytes are wrong is asked for again, from its beginning.
    """
    for sha256, size in list(planned.missing.items()):
        part, whole = _part(places, sha256), os.path.join(places.incoming, sha256)
        there = _size(part)
        if size == 0 and there is None:
            durable.fill(part, b"")
        elif there is None or there < size:
            continue
        if not _is(part, sha256, size):
            durable.remove(part)
            continue
        durable.sync_file(part)
        durable.rename(part, whole)
        planned.sources[sha256] = whole
        del planned.missing[sha256]
    return [_need(places, sha, size) for sha, size in sorted(planned.missing.items())]


def clear(places: Places) -> None:
    """All that arrived goes: it has been staged."""
    for entry in durable.names(places.incoming):
        durable.remove(os.path.join(places.incoming, entry))


def _candidates(places: Places, first: list[str | None]) -> dict[str, list[str]]:
    """The files on the board that should have a content, by SHA-256; those of releases in use come first."""
    found: dict[str, list[str]] = {}
    for name in sorted(releases.names(places), key=lambda name: name not in first):
        with contextlib.suppress(Refusal):
            for file in releases.manifest_of(places, name)["files"]:
                path = os.path.join(places.release(name), *file["path"].split("/"))
                found.setdefault(file["sha256"], []).append(path)
    return found


def _space(path: str) -> int:
    """The bytes of a file, or of all files in a folder."""
    if not os.path.isdir(path):
        return _size(path) or 0
    return sum(info.st_size for _, info in edgepack_trust.walk(path))


def _need(places: Places, sha256: str, size: int) -> dict[str, Any]:
    path = _part(places, sha256)
    return {"sha256": sha256, "size": size, "offset": _size(path) or 0, "path": path}


def _part(places: Places, sha256: str) -> str:
    return os.path.join(places.incoming, sha256 + _PART)


def _size(path: str) -> int | None:
    """The bytes of a regular file; None if there is none."""
    with contextlib.suppress(OSError):
        info = os.lstat(path)
        if stat.S_ISREG(info.st_mode):
            return info.st_size
    return None


def _is(path: str, sha256: str, size: int) -> bool:
    with contextlib.suppress(OSError):
        return _size(path) == size and edgepack_trust.file_sha256(path) == sha256
    return False
