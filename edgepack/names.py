"""Names that go into folder names, manifests and templates: one rule for apps and targets."""

from __future__ import annotations

import re
from pathlib import Path

from edgepack.errors import UsageError

#: Legal in a folder's name everywhere.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
#: A release of a runtime.
VERSION = r"^\d+\.\d+\.\d+$"


def app_name(given: str | None, model: Path) -> str:
    """The app's name: what was given, else the model's file name without suffix, with odd characters as `-`.

    Raises:
        UsageError: the given name cannot be a folder's name everywhere.
    """
    if given is None:
        given = re.sub(r"[^A-Za-z0-9._-]+", "-", model.resolve().stem).strip("-._") or "model"
    if not re.fullmatch(NAME, given):
        raise UsageError(
            f"the app name {given!r} is not legal in a folder name",
            "use letters, digits, '.', '_' and '-', beginning with a letter or digit",
        )
    return given


def bundle_name(app: str, target: str) -> str:
    """The name of a bundle's folder."""
    return f"{app}-{target}"
