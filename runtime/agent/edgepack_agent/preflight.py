"""May this bundle run on this board (placeholder until branch `board` is merged)."""

from __future__ import annotations

import os
from typing import Any

from edgepack_agent.facts import Facts
from edgepack_trust import Refusal


def check(
    manifest: dict[str, Any], facts: Facts, app_dir: str, needs_bytes: int
) -> list[dict[str, Any]]:
    """What was compared."""
    info = os.statvfs(app_dir)
    if info.f_flag & os.ST_RDONLY:
        raise Refusal("read-only", f"{app_dir} is on a read-only filesystem", "mount it writable")
    free = info.f_bavail * info.f_frsize
    if free < needs_bytes:
        raise Refusal(
            "disk", f"{app_dir}: {free} bytes are free, {needs_bytes} are needed", "free space"
        )
    return []
