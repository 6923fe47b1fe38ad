"""The releases on the board: whole bundles, each in a folder of its own that nothing changes once it has its name."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Iterable

import edgepack_trust
from edgepack_agent import durable, engine
from edgepack_agent.papers import Papers
from edgepack_agent.places import Places, is_release, release_name
from edgepack_trust import MANIFEST, SIGNATURE, Refusal

TEMPORARY = ".tmp-"


def names(places: Places) -> list[str]:
    """The releases that are there whole, in the order of their numbers."""
    found = [name for name in durable.names(places.releases) if is_release(name)]
    return sorted(found, key=lambda name: (int(name.split("-")[0]), name))


def manifest_of(places: Places, name: str) -> dict[str, Any]:
    """The manifest of a release on the board.

    Raises:
        Refusal: of kind `files`: it is not there, or not the one that the release was named after.
    """
    place = os.path.join(places.release(name), MANIFEST)
    fix = "flash it again"
    data = edgepack_trust.read_file(place, "files", fix)
    manifest = edgepack_trust.read_manifest(data, place)
    if release_name(manifest["release"]["seq"], data) != name:
        raise Refusal("files", f"{place} was changed", fix)
    return manifest


def check(places: Places, name: str) -> None:
    """Nothing, if every file of a release is as its manifest lists it.

    What a program left beside them (`__pycache__`) does not count: it is `stage` that lets nothing else in.

    Raises:
        Refusal: of kind `files`, names what is missing or changed.
    """
    wrong = []
    for file in manifest_of(places, name)["files"]:
        path = os.path.join(places.release(name), *file["path"].split("/"))
        try:
            fine = edgepack_trust.file_sha256(path) == file["sha256"]
        except OSError as error:
            wrong.append(f"{file['path']}: {error.strerror}")
        else:
            if not fine:
                wrong.append(f"{file['path']} was changed (its SHA-256 differs)")
    if wrong:
        raise Refusal("files", f"{places.release(name)}: {'; '.join(wrong)}", "flash it again")


def is_whole(places: Places, name: str | None) -> bool:
    """Whether `name` is a release on this board of which `check` says nothing."""
    if name is None:
        return False
    with contextlib.suppress(Refusal):
        check(places, name)
        return True
    return False


def linked(link: str) -> str | None:
    """The release that `current` or `previous` leads to; None if it is not there, or leads elsewhere."""
    try:
        folder, name = os.path.split(os.readlink(link))
    except OSError:
        return None
    return name if folder == "releases" and is_release(name) else None


def point(link: str, name: str | None) -> None:
    """Let `current` or `previous` lead to a release, or to none (then there is no link)."""
    if name is None:
        if durable.remove(link):
            durable.sync_folder(os.path.dirname(link))
    elif linked(link) != name:
        durable.point(link, os.path.join("releases", name))


def point_back(places: Places, name: str) -> None:
    """Let `current` lead to the previous release, and `previous` be gone: one rename, for which a full disk has room."""
    if linked(places.previous) == name and linked(places.current) != name:
        durable.rename(places.previous, places.current)
    else:
        point(places.current, name)
        point(places.previous, None)


def stage(places: Places, papers: Papers, sources: dict[str, str]) -> None:
    """Put a release together under its name, verified whole and synced; nothing leads to it yet.

    Args:
        sources: for each SHA-256 of a file, where it lies: in `incoming/`, from where it is moved in, or in another release, from
            where it is copied, so that no two releases share what an app could write to.

    Raises:
        Refusal: of kind `files`: a source was not what it should be.
    """
    target = places.release(papers.name)
    if os.path.lexists(target):
        with contextlib.suppress(Refusal):
            check(places, papers.name)
            return
    building = places.release(TEMPORARY + papers.name)
    durable.make_folder(places.releases)
    durable.remove(building)
    os.mkdir(building, 0o755)
    os.chmod(building, 0o755)
    for file in papers.manifest["files"]:
        path = os.path.join(building, *file["path"].split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        _place(places, sources[file["sha256"]], path)
    durable.fill(os.path.join(building, MANIFEST), papers.manifest_bytes)
    if papers.signature is not None:
        durable.fill(os.path.join(building, SIGNATURE), papers.signature)
    listed = papers.manifest["files"]
    edgepack_trust.check_files(building, listed, {f["path"]: f["sha256"] for f in listed})
    for parent, _, _ in os.walk(building):
        os.chmod(parent, 0o755)
    durable.sync_folders(building)
    if os.path.lexists(target):
        # It is damaged, so of no use to anybody, even if `current` leads to it; what was whole in it has been copied.
        remove(places, papers.name)
    durable.rename(building, target)


def sign_anew(places: Places, papers: Papers) -> None:
    """A release that is there takes the signature that came, if it is another: the manifest it vouches for is the same."""
    place = os.path.join(places.release(papers.name), SIGNATURE)
    if papers.signature is None or papers.signed_by is None:
        return
    if not os.path.exists(place) or edgepack_trust.read_file(place) != papers.signature:
        durable.write(place, papers.signature)


def _place(places: Places, source: str, path: str) -> None:
    if os.path.dirname(source) == places.incoming:
        try:
            durable.move_in(source, path)
        except FileExistsError:
            durable.copy(source, path)
    else:
        durable.copy(source, path)


def remove(places: Places, name: str) -> None:
    """A release goes: first its name, at once, then its files."""
    going = places.release(f"{TEMPORARY}gone-{name}")
    durable.remove(going)
    durable.rename(places.release(name), going)
    durable.remove(going)


def drop_leftovers(places: Places) -> None:
    """What an earlier run left unfinished goes; nothing that has a release's name."""
    for name in durable.names(places.releases):
        if name.startswith("."):
            durable.remove(places.release(name))
    for name in durable.names(places.folder):
        if name.startswith(".") and name.endswith(".tmp"):
            durable.remove(os.path.join(places.folder, name))
    engine.drop_halves(places.engines)


def clean(places: Places, keep: Iterable[str | None]) -> None:
    """Remove the releases that nobody needs. `current` and `previous`, and what they lead to, stay whatever `keep` says."""
    stay = {*keep, linked(places.current), linked(places.previous)}
    for name in names(places):
        if name not in stay:
            remove(places, name)
            durable.remove(places.report(name))
