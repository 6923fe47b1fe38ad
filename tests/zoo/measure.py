"""What a program costs: wall-clock seconds and the peak memory of it and everything it started."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: Between two looks at the memory.
_POLL_S = 0.02
#: Between two looks for new child processes, in polls.
_LOOK_EVERY = 5
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A program that ended.

    Attributes:
        returncode: negative for a signal; None where it was killed after the time allowed.
        peak_bytes: the most that the resident sets of the process and its descendants summed up to. Pages that two of them share
            count twice.
        stdout, stderr: their last 20,000 characters.
    """

    returncode: int | None
    seconds: float
    peak_bytes: int
    stdout: str
    stderr: str


def measure(argv: Sequence[str], environment: Mapping[str, str], *, timeout_s: float) -> Run:
    """Run a program to its end and say what it cost."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            list(argv), env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
            stdout=out, stderr=err, start_new_session=True,
        )  # fmt: skip
        peak, late = _watch(process, start + timeout_s)
        seconds = time.perf_counter() - start
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read()[-20_000:])
    return Run(
        returncode=None if late else process.returncode,
        seconds=seconds,
        peak_bytes=peak,
        stdout=texts[0],
        stderr=texts[1],
    )


def _watch(process: subprocess.Popen[bytes], deadline: float) -> tuple[int, bool]:
    """The peak, and whether it was still running at `deadline` (it is killed then)."""
    peak, polls, tree = 0, 0, [process.pid]
    while process.poll() is None:
        if polls % _LOOK_EVERY == 0:
            tree = _tree(process.pid)
        polls += 1
        peak = max(peak, sum(_resident(pid) for pid in tree))
        if time.perf_counter() > deadline:
            for pid in reversed(tree):
                _kill(pid)
            process.wait()
            return peak, True
        time.sleep(_POLL_S)
    return peak, False


def _resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0  # it has ended


def _tree(root: int) -> list[int]:
    """The process and its descendants, also those in a session of their own."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                stat = (folder / "stat").read_text()
            except OSError:
                continue
            # The second field is a name in brackets that may hold spaces.
            parent = int(stat.rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    tree = [root]
    for pid in tree:
        tree += parents.get(pid, [])
    return tree


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
