"""Where everything of one app lies on the board."""

from __future__ import annotations

import hashlib
import os
import re
from typing import NamedTuple

from edgepack_trust import Refusal

#: `<seq>-<digest12>`, see `release_name`.
_RELEASE = re.compile(r"\d{1,19}-[0-9a-f]{12}")
#: As release.app in a manifest.
_APP = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_FOR_ROOT = "/var/lib/edgepack"


class Places(NamedTuple):
    """The paths of one app below a root; the layout in README.md."""

    root: str
    app: str

    @property
    def folder(self) -> str:
        return os.path.join(self.root, self.app)

    @property
    def agents(self) -> str:
        return os.path.join(self.root, "agent")

    @property
    def lock(self) -> str:
        return os.path.join(self.folder, "lock")

    @property
    def state(self) -> str:
        return os.path.join(self.folder, "state.json")

    @property
    def state_back(self) -> str:
        return os.path.join(self.folder, ".state.back")

    @property
    def journal(self) -> str:
        return os.path.join(self.folder, "journal.jsonl")

    @property
    def trust(self) -> str:
        return os.path.join(self.folder, "trust.json")

    @property
    def incoming(self) -> str:
        return os.path.join(self.folder, "incoming")

    @property
    def engines(self) -> str:
        return os.path.join(self.folder, "engines")

    @property
    def reports(self) -> str:
        return os.path.join(self.folder, "reports")

    @property
    def releases(self) -> str:
        return os.path.join(self.folder, "releases")

    @property
    def current(self) -> str:
        return os.path.join(self.folder, "current")

    @property
    def current_back(self) -> str:
        return os.path.join(self.folder, ".current.back")

    @property
    def previous(self) -> str:
        return os.path.join(self.folder, "previous")

    def release(self, name: str) -> str:
        return os.path.join(self.releases, name)

    def report(self, name: str) -> str:
        return os.path.join(self.reports, name + ".json")


def places(root: str | None, app: str) -> Places:
    """The places of `app` below `root`; without one, where root's apps lie.

    Raises:
        Refusal: `app` is no app's name, or a user who is not root gave no root.
    """
    if _APP.fullmatch(app) is None:
        raise Refusal("usage", f"--app {app!r} is no app's name", "give release.app of the bundle")
    if root is None and os.geteuid() != 0:
        raise Refusal(
            "usage",
            f"only root writes below {_FOR_ROOT}",
            "give a folder of your own: --root DIR",
        )
    return Places(os.path.abspath(root or _FOR_ROOT), app)


def release_name(seq: int, manifest: bytes) -> str:
    """A release's name, `<seq>-<digest12>`: its number, and how the SHA-256 of its manifest.json begins."""
    return f"{seq}-{hashlib.sha256(manifest).hexdigest()[:12]}"


def is_release(name: str) -> bool:
    """Whether `name` is one that `release_name` gives."""
    return _RELEASE.fullmatch(name) is not None


def own_program() -> str:
    """What runs now: the .pyz, or the folder in its place."""
    return os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
