"""How much a child that opens somebody's model may use, and what it says when it wants more."""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import UsageError

MEMORY, CPU, FILE, GUARDS = (
    "EDGEPACK_MAX_MEMORY",
    "EDGEPACK_MAX_CPU",
    "EDGEPACK_MAX_FILE",
    "EDGEPACK_GUARDS",
)
#: The largest model of the zoo takes 7 GB and two minutes; TensorFlow alone takes 1 GB.
_LEAST_MEMORY, _CPU_S, _FILE = 4 << 30, 4 * 3600, 32 << 30
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
#: What Python, C++, TensorFlow and HDF5 say when there is no more memory.
_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|RESOURCE_EXHAUSTED|ResourceExhausted|Cannot allocate memory|Failed to allocate memory|OOM when|[Oo]ut of memory"
    r"|can't start new thread|Resource temporarily unavailable"
)
_LARGE_FILE = re.compile(r"\[Errno 27\]|File too large")


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Bytes of memory, seconds of CPU time, and bytes of any one file that a child may take; and whether it is confined.

    Attributes:
        confined: without network, and with a view of the disk that shows what it needs and can be written in one place.
    """

    memory_bytes: int
    cpu_s: int
    file_bytes: int
    confined: bool = True

    @staticmethod
    def from_environment() -> Limits:
        """What EDGEPACK_MAX_MEMORY (8G), EDGEPACK_MAX_CPU (seconds), EDGEPACK_MAX_FILE (32G) and EDGEPACK_GUARDS=off say.

        Without: as much memory as the machine has, four hours, files of 32 GiB, confined.

        Raises:
            UsageError: one of them is no size or number.
        """
        memory, file, cpu = (os.environ.get(name, "") for name in (MEMORY, FILE, CPU))
        guards = os.environ.get(GUARDS, "")
        if guards not in ("", "on", "off"):
            raise UsageError(f"${GUARDS} is {guards!r}", "set it to on or off")
        if cpu and not re.fullmatch(r"[1-9]\d*", cpu):
            raise UsageError(f"${CPU} is {cpu!r}, no number of seconds", "set it like 3600")
        return Limits(
            memory_bytes=_bytes(MEMORY, memory) if memory else machine_memory(),
            cpu_s=int(cpu) if cpu else _CPU_S,
            file_bytes=_bytes(FILE, file) if file else _FILE,
            confined=guards != "off",
        )

    def hit(self, returncode: int | None, said: str) -> tuple[str, str] | None:
        """Which limit ended the work, and the remedy; None: none of them did.

        Args:
            returncode: of a child that ended; None: it goes on.
            said: its error, or the last lines of its log.
        """
        if returncode == -getattr(signal, "SIGXCPU", 0):
            return f"the limit of {self.cpu_s} s of CPU time", f"allow more: {CPU}={self.cpu_s * 4}"
        if returncode == -getattr(signal, "SIGXFSZ", 0) or _LARGE_FILE.search(said):
            more = _shown(self.file_bytes * 4)
            return (
                f"the limit of {_shown(self.file_bytes)} for one file",
                f"allow more: {FILE}={more}",
            )
        if _NO_MEMORY.search(said):
            more = _shown(self.memory_bytes * 2)
            return (
                f"the limit of {_shown(self.memory_bytes)} of memory",
                f"allow more: {MEMORY}={more}, if the machine has it",
            )
        return None


def machine_memory() -> int:
    """Bytes of memory of this machine, or of the container that this runs in; at least 4 GiB."""
    sizes = []
    try:
        sizes.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        sizes.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError, AttributeError):
        pass
    return max(_LEAST_MEMORY, min(sizes, default=_LEAST_MEMORY))


def _bytes(name: str, text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    size = int(float(match[1]) * (1 << _UNITS[match[2].upper()])) if match else 0
    if size <= 0:
        raise UsageError(f"${name} is {text!r}, no size", "set it like 8G or 500M")
    return size


def _shown(size: int) -> str:
    for unit in ("T", "G", "M", "K"):
        if size >= 1 << _UNITS[unit]:
            return f"{size / (1 << _UNITS[unit]):.3g}{unit}"
    return str(size)
