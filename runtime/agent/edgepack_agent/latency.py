"""How fast it is here (placeholder until branch `board` is merged)."""

from __future__ import annotations

from typing import Any


def measure(release: str, engines: str, options: dict[str, Any]) -> dict[str, Any]:
    """What was measured."""
    return {}
