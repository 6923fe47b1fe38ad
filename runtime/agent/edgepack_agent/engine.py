"""TensorRT engines (placeholder until branch `board` is merged)."""

from __future__ import annotations

from typing import Any, Callable

from edgepack_agent.facts import Facts


def build(
    release: str,
    engines: str,
    manifest: dict[str, Any],
    facts: Facts,
    options: dict[str, Any],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """What was built."""
    return {"built": "none", "because": "placeholder"}
