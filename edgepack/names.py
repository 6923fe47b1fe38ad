"""Names that go into folder names and manifests."""

from __future__ import annotations

import re
from pathlib import Path

from edgepack.errors import UsageError

_LEGAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def app_name(given: str | None, model: Path) -> str:
    """The app's name: what was given, else the model's file name without suffix, with odd characters as `-`.

    Raises:
        UsageError: the given name cannot be a folder's name everywhere.
    """
    if given is None:
        given = re.sub(r"[^A-Za-z0-9._-]+", "-", model.resolve().stem).strip("-._") or "model"
    if not _LEGAL.fullmatch(given):
        raise UsageError(
            f"the app name {given!r} is not legal in a folder name",
            "use letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return given
