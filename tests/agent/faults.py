"""What can go wrong at each operation of the agent: its process is killed there, or the disk fails.

Nothing of this is in the agent. In a child process, an audit hook hears of every operation before it happens (PEP 578), and `os.write`,
`os.fsync` and `os.ftruncate`, of which the interpreter does not tell, are wrapped.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: The audit events of operations that change something, and which of their arguments is a path.
_EVENTS = (
    "open",
    "os.chmod",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
    "subprocess.Popen",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
#: What takes space on a disk, beside writing, if it makes something new; all else works on a full one.
_MAKES = ("open", "os.link", "os.mkdir", "os.symlink")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What happens at the operation of that number, counted from 0.

    Attributes:
        at: the number; None: nothing happens, operations are only counted.
        error: an errno to fail with; None: the process is killed.
        lasting: all operations from there on fail, not that one alone. Programs start all the same, and what takes no space on the
            disk works on a full one.
    """

    at: int | None = None
    error: int | None = None
    lasting: bool = False


def install(fault: Fault, root: Path, log: Path) -> None:
    """Let the fault happen in this process. Each operation is written into `log` before it happens: its name and its path."""
    import errno

    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    write, count = os.write, iter(range(1 << 30))
    below = str(root)

    def happen(event: str, where: str, half: Callable[[], object] | None = None) -> None:
        number = next(count)
        write(out, f"{event} {where}\n".encode())
        if fault.at is None or number < fault.at or (number > fault.at and not fault.lasting):
            return
        if fault.error is None:
            if half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)
        elif event == "subprocess.Popen":
            return
        elif fault.error != errno.ENOSPC or (
            event == "os.write" or (event in _MAKES and not os.path.lexists(where))
        ):
            raise OSError(fault.error, os.strerror(fault.error), where)

    def hear(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _EVENTS:
            return
        if event == "subprocess.Popen":
            happen(event, str(arguments[0]))
            return
        if event == "open" and not arguments[2] & _WRITING:
            return
        path = arguments[1 if event in ("os.symlink", "os.link") else 0]
        if isinstance(path, (str, bytes)) and os.fsdecode(path).startswith(below):
            happen(event, os.fsdecode(path))

    def named(descriptor: int) -> str:
        return os.readlink(f"/proc/self/fd/{descriptor}")

    def wrap(name: str) -> None:
        real = getattr(os, name)

        def wrapped(descriptor: int, *arguments: Any) -> Any:
            where = named(descriptor)
            if not where.startswith(below):
                return real(descriptor, *arguments)
            torn = None
            if name == "write":
                data = bytes(arguments[0])
                torn = lambda: real(descriptor, data[: len(data) // 2])  # noqa: E731
            happen(f"os.{name}", where, torn)
            return real(descriptor, *arguments)

        setattr(os, name, wrapped)

    for name in ("write", "fsync", "ftruncate"):
        wrap(name)
    sys.addaudithook(hear)
