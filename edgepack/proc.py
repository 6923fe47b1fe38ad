"""The only place that starts a subprocess."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import EnvironmentMissing


@dataclass(frozen=True, kw_only=True)
class Completed:
    """What a program left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> Completed:
    """Run a program to its end and return what it printed.

    Raises:
        EnvironmentMissing: the program is not on PATH, or it was still running after `timeout_s` seconds (it is killed).
    """
    if shutil.which(argv[0]) is None:
        raise EnvironmentMissing(f"{argv[0]} is not on PATH", f"install {argv[0]}")
    try:
        done = subprocess.run(
            list(argv),
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EnvironmentMissing(
            f"{argv[0]} was still running after {timeout_s:.0f} s",
            f"run it by hand in {cwd} to see why: {' '.join(argv)}",
        ) from error
    return Completed(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


class WorkerDied(Exception):
    """The child process ended before it answered. `log` is the tail of its stderr."""

    def __init__(self, returncode: int, log: str) -> None:
        super().__init__(f"worker ended with {returncode}")
        self.returncode = returncode
        self.log = log


class Worker:
    """A child process that answers JSON lines: one request in, one reply out.

    Its stderr goes to `log_path`. It runs in a process group of its own, so that Ctrl-C reaches it only through `close`.
    """

    def __init__(
        self, argv: Sequence[str], *, log_path: Path, environment: Mapping[str, str]
    ) -> None:
        self._log_path = log_path
        with log_path.open("wb") as log:
            self._process = subprocess.Popen(
                list(argv),
                env={**os.environ, **environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def send(self, request: Mapping[str, Any]) -> None:
        """Hand over a request without waiting for the reply.

        Raises:
            WorkerDied: the process is gone.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._death() from None

    def receive(self) -> dict[str, Any]:
        """Wait for the next reply.

        Raises:
            WorkerDied: the process ended instead.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._death()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of the child's stderr."""
        with self._log_path.open(errors="replace") as log:
            return "".join(deque(log, lines))

    def close(self) -> None:
        """End the process and everything it started; never waits on its goodwill."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _death(self) -> WorkerDied:
        return WorkerDied(self._process.wait(), self.log_tail())
