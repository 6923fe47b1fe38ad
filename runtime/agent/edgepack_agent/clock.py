"""Times that do not depend on what the board believes the date to be."""

from __future__ import annotations

import time

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def since_boot() -> float:
    """Seconds since the board started, sleep included (clock_gettime(2), CLOCK_BOOTTIME). A set clock does not move it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """What tells this start of the board from all others (random(4))."""
    with open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def as_text(seconds: float | None = None) -> str:
    """Now, or that time, as in 2026-11-26T17:00:00Z, as the board's clock has it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
