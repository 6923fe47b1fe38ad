"""May what the host wants to flash be flashed? Asked of manifest, signature and trust file, before any other byte arrives."""

from __future__ import annotations

import hashlib
import os
from typing import Any, NamedTuple

import edgepack_trust
from edgepack_agent import durable
from edgepack_agent.conversation import Begin
from edgepack_agent.places import Places, own_program, release_name
from edgepack_agent.state import State
from edgepack_trust import Refusal, Trust

#: How the agent's file is called in a bundle, in whatever folder.
_AGENT = "edgepack-agent.pyz"


class Papers(NamedTuple):
    """A release that may come.

    `signed_by` is None where nobody vouches for it; `trust` is the trust file to write, None if the board's stays.
    """

    name: str
    seq: int
    manifest: dict[str, Any]
    manifest_bytes: bytes
    signature: bytes | None
    signed_by: str | None
    trust: bytes | None

    def sizes(self) -> dict[str, int]:
        """The bytes of each file's content, by SHA-256."""
        return {f["sha256"]: f["size"] for f in self.manifest["files"]}


def examine(places: Places, begin: Begin, known: State) -> Papers:
    """The papers of a release, once every rule holds that can be asked without its files. Nothing is written.

    Args:
        known: what is committed may come again, after a rollback too; all else is no older than what was ever committed.

    Raises:
        Refusal: the first rule that does not hold; see edgepack_trust.py.
    """
    manifest, signed_by, renewed = _believed(places, begin, known)
    mine = own_program()
    if os.path.isfile(mine) and agents_of(manifest):
        # Or a signature would not say what runs on the board.
        _require_listed(mine, manifest, "flash with a host that brings the bundle's own agent")
    seq = manifest["release"]["seq"]
    name = release_name(seq, begin.manifest)
    return Papers(name, seq, manifest, begin.manifest, begin.signature, signed_by, renewed)


def admit(places: Places, begin: Begin, known: State, file: str) -> str:
    """The SHA-256 of an agent that the board may run: a bundle that may come, of which only the papers are here, lists it.

    Raises:
        Refusal: the bundle may not come, or brings another agent.
    """
    manifest, _, _ = _believed(places, begin, known)
    return _require_listed(file, manifest, "copy it again")


def _believed(
    places: Places, begin: Begin, known: State
) -> tuple[dict[str, Any], str | None, bytes | None]:
    """(manifest, who signed it, trust file to write)."""
    trust, renewed = trusted(places, begin.trust)
    digest = hashlib.sha256(begin.manifest).hexdigest()
    is_there = known.committed is not None and digest.startswith(known.committed.split("-")[1])
    least = 0 if is_there else known.min_seq
    place = f"the bundle from {begin.by}"
    if begin.signature is None or (trust is None and begin.options.allow_unsigned):
        return _unsigned(places, begin, trust, place, least), None, renewed
    if trust is None:
        raise Refusal(
            "trust-file",
            f"nobody is trusted on this board yet: there is no {places.trust}",
            "give the trust file at the first flash (--trust)",
        )
    manifest, signed, key = edgepack_trust.verify_papers(
        begin.manifest,
        begin.signature,
        trust,
        place=place,
        app=places.app,
        min_release_seq=least,
    )
    wrong = edgepack_trust.differences(manifest["files"], signed.files)
    if wrong:
        raise Refusal("files", f"{place}: {'; '.join(wrong)}", "build and sign it again")
    return manifest, key.id, renewed


def trusted(places: Places, offered: bytes | None) -> tuple[Trust | None, bytes | None]:
    """Who is trusted on this board, and the trust file that is to be written, None if none is.

    Raises:
        Refusal: what the host offers may not replace the board's.
    """
    place = "the trust file from the host"
    if not os.path.lexists(places.trust):
        if offered is None:
            return None, None
        return edgepack_trust.read_trust(offered, place), offered
    fix = "restore it from the host, or remove it by hand to trust anew"
    data = edgepack_trust.read_file(places.trust, "trust-file", fix)
    mine = edgepack_trust.read_trust(data, places.trust)
    if offered is None or offered == data:
        return mine, None
    if b'"dsseEnvelope"' not in offered:
        raise Refusal(
            "trust-file",
            f"{places.trust} (version {mine.version}) is replaced only by one that a key trusted there has sealed",
            "seal it: edgepack trust sign",
        )
    payload = edgepack_trust.open_envelope(offered, edgepack_trust.TRUST_PAYLOAD, place)[1]
    if payload == data:
        return mine, None
    return edgepack_trust.renewed_trust(mine, offered, place)


def _unsigned(
    places: Places, begin: Begin, trust: Trust | None, place: str, least: int
) -> dict[str, Any]:
    if not begin.options.allow_unsigned:
        raise Refusal(
            "signature-missing",
            f"{place} is not signed",
            "sign it (edgepack sign BUNDLE --key KEY), or say --allow-unsigned",
        )
    manifest = edgepack_trust.read_manifest(begin.manifest, place)
    release = manifest["release"]
    if release["app"] != places.app:
        raise Refusal(
            "app",
            f"{place} is a release of the app {release['app']}, not of {places.app}",
            "give the bundle that was built for it (--app)",
        )
    if trust is not None:
        least = max(least, trust.min_release_seq.get(places.app, 0))
    if release["seq"] < least:
        raise Refusal(
            "release",
            f"{place} is release {release['seq']} of {places.app}; the oldest that may be installed is {least}",
            f"build it with --release-seq {least} or more",
        )
    return manifest


def agents_of(manifest: dict[str, Any]) -> list[str]:
    """The SHA-256 of the agents that a bundle brings: one, or none."""
    return [f["sha256"] for f in manifest["files"] if os.path.basename(f["path"]) == _AGENT]


def _require_listed(file: str, manifest: dict[str, Any], fix: str) -> str:
    try:
        digest = edgepack_trust.file_sha256(file)
    except OSError as error:
        raise durable.refusal(error) from error
    listed = agents_of(manifest)
    if digest not in listed:
        brings = f"brings ({', '.join(listed) or 'none'})"
        raise Refusal("agent", f"{file} ({digest}) is not the agent that the bundle {brings}", fix)
    return digest
