"""Profiles of a user's own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

Profile = Callable[..., Path]


@pytest.fixture
def profile(tmp_path: Path) -> Profile:
    """Writes a profile file with the given lines and returns its path."""

    def write(*lines: str, name: str = "mine") -> Path:
        path = tmp_path / f"{name}.yaml"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
