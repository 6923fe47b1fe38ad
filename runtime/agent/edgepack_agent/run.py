"""Programs that the agent starts: no shell, a time limit, bounded output, and nothing left running."""

from __future__ import annotations

import contextlib
import ctypes
import os
import selectors
import signal
import subprocess
import time
from typing import IO, Callable, Mapping, NamedTuple, Sequence

#: Of what a program prints: a log's first lines say what runs, its last ones why it stopped.
KEEP = 64 << 10
_NOT_STARTED = 127  # as a shell says it


class Ran(NamedTuple):
    """What a program left: exit code (negative: the signal that ended it), what it printed, whether its time was up."""

    code: int
    stdout: str
    stderr: str
    timed_out: bool


def run(
    argv: Sequence[str],
    *,
    seconds: float,
    cwd: str | None = None,
    environment: Mapping[str, str] | None = None,
    keep: int = KEEP,
    waiting: Callable[[float], None] | None = None,
) -> Ran:
    """Run a program until it ends, or for `seconds`; then kill it, and whatever it started and left in its process group.

    A program that cannot be started gives code 127. It dies with the agent.

    Args:
        environment: variables beside the agent's own.
        keep: bytes of each of stdout and stderr that are kept: the first eighth, and the last of the rest.
        waiting: called about once a second with the seconds that have passed.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=_dying_with_parent(),
        )
    except OSError as error:
        return Ran(_NOT_STARTED, "", f"{argv[0]}: {error.strerror}", False)
    assert process.stdout is not None
    assert process.stderr is not None
    outputs = {process.stdout: _Output(keep), process.stderr: _Output(keep)}
    try:
        timed_out = _read(process.pid, outputs, seconds, waiting)
    finally:
        # Before the process is waited for: until then its number cannot be another's.
        _kill_group(process.pid)
        process.wait()
        for pipe in outputs:
            pipe.close()
    stdout, stderr = (output.text() for output in outputs.values())
    return Ran(process.returncode, stdout, stderr, timed_out)


class _Output:
    """The beginning and the end of what a program printed."""

    def __init__(self, keep: int) -> None:
        self._first, self._last = bytearray(), bytearray()
        self._room, self._keep, self._dropped = keep // 8, keep - keep // 8, 0

    def add(self, data: bytes) -> None:
        taken = min(len(data), self._room - len(self._first))
        self._first += data[:taken]
        self._last += data[taken:]
        over = len(self._last) - self._keep
        if over > 0:
            self._dropped += over
            del self._last[:over]

    def text(self) -> str:
        gap = b"\n[%d bytes left out]\n" % self._dropped if self._dropped else b""
        return bytes(self._first + gap + self._last).decode("utf-8", "replace")


def _read(
    pid: int,
    outputs: dict[IO[bytes], _Output],
    seconds: float,
    waiting: Callable[[float], None] | None,
) -> bool:
    """Read until the process has ended, not until its pipes close: what it left behind may hold them. Gives whether time was up."""
    begin = time.monotonic()
    told = last_seen = begin
    with selectors.DefaultSelector() as selector:
        for pipe in outputs:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        while True:
            ended = _has_ended(pid)
            ready = selector.select(0 if ended else 0.05) if selector.get_map() else []
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if data:
                    outputs[key.fileobj].add(data)  # type: ignore[index]
                else:
                    selector.unregister(key.fileobj)
            now = time.monotonic()
            if ended and (not ready or now - last_seen > 0.5):
                return False  # what it left behind may go on printing
            last_seen = last_seen if ended else now
            if now - begin > seconds:
                return not ended
            if not ready and not selector.get_map():
                time.sleep(0.05)  # it closed its outputs and runs on
            if waiting is not None and now - told >= 1:
                told = now
                waiting(now - begin)


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nothing of it is left
        os.killpg(pid, signal.SIGKILL)


def _dying_with_parent() -> Callable[[], None]:
    """What a child calls first. It is also the one that the kernel ends when memory runs out: neither the agent nor the app.

    Sources: prctl(2), PR_SET_PDEATHSIG = 1; proc(5), oom_score_adj, which everybody may raise.
    """
    libc, parent = ctypes.CDLL(None), os.getpid()

    # Between fork and exec as little of Python as can be.
    def call() -> None:
        libc.prctl(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(_NOT_STARTED)  # it died in between
        descriptor = libc.open(b"/proc/self/oom_score_adj", os.O_WRONLY)
        if descriptor >= 0:
            libc.write(descriptor, b"900", 3)
            libc.close(descriptor)

    return call
