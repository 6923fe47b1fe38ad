"""What is missing on the board (placeholder until branch `board` is merged)."""

from __future__ import annotations

from typing import Any


def examine(root: str, app: str) -> list[dict[str, Any]]:
    """What was looked at."""
    return []
