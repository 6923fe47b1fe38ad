"""What the board is (placeholder until branch `board` is merged)."""

from __future__ import annotations

from typing import NamedTuple


class Facts(NamedTuple):
    """What the board is."""

    arch: str | None = None


def read(root: str = "/") -> Facts:
    """The board's facts."""
    return Facts()
