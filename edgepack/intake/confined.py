"""A child process that opens somebody's model: it confines itself (confine.py), answers JSON lines (worker.py), and may crash."""

from __future__ import annotations

import json
import stat
import sys
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, ModelError
from edgepack.intake.limits import Limits
from edgepack.proc import Worker, WorkerDied

#: `python -m` would look for modules in the working folder first, where an archive may just have been unpacked.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from edgepack.intake.worker import main; main(sys.argv[1])"
)


class Confined:
    """The parent's side of such a child. It starts at once; what it does first runs beside the caller.

    Attributes:
        outbox: the one folder in which the child may write.
    """

    def __init__(
        self,
        folder: Path,
        *,
        name: str,
        framework: str,
        read: Sequence[Path],
        environment: Mapping[str, str],
        kinds: Sequence[type[EdgepackError]],
    ) -> None:
        """Start it.

        Args:
            folder: the caller's own scratch folder, which the child may read.
            name, framework: of the model and what opens it, for messages.
            read: what else it may read, besides Python's own and the system's.
            kinds: the errors of the child that stay what they are; others become ModelErrors.

        Raises:
            UsageError: a limit in the environment is none.
        """
        self._limits = Limits.from_environment()
        self._name, self._framework = name, framework
        self._kinds = {kind.__name__: kind for kind in kinds}
        self._guards: tuple[str, ...] | None = None
        self.outbox = Path(tempfile.mkdtemp(prefix="child-", dir=folder))
        confinement = {
            **vars(self._limits),
            "read": [str(p.resolve()) for p in (*read, folder)],
            "write": str(self.outbox.resolve()),
        }
        self._worker = Worker(
            [sys.executable, "-c", _START, json.dumps(confinement)],
            log_path=folder / f"{framework.lower()}.log",
            environment=environment,
        )
        self.pid = self._worker.pid
        #: Nobody who forgets to close it leaves a process behind.
        self._end = weakref.finalize(self, self._worker.close)

    @property
    def guards(self) -> tuple[str, ...]:
        """What confines it: "memory", "network", …"""
        if self._guards is None:
            self._guards = tuple(self._receive()["guards"])
        return self._guards

    def send(self, **request: Any) -> None:
        """Hand over a request without waiting for the reply.

        Raises:
            ModelError: the process is gone.
        """
        try:
            self._worker.send(request)
        except WorkerDied as death:
            raise self._crash(death) from None

    def receive(self) -> dict[str, Any]:
        """Wait for the next reply.

        Raises:
            ModelError: the process ended, or could not do what was asked; where a limit was in the way, the error names it.
            EdgepackError: one of `kinds`.
        """
        _ = self.guards  # they come first
        return self._receive()

    def take(self, file: Path, to: Path) -> None:
        """Move a file out of the child's folder.

        Raises:
            ModelError: it is no plain file of its own, and so nothing that the child should have made.
        """
        info = file.lstat()
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            raise ModelError(
                f"{self._name}: the process that opened it left {file.name}, which is no file of its own",
                "do not use this model: it ran code",
            )
        file.replace(to)

    def close(self) -> None:
        """End the process and everything it started."""
        self._end()

    def _receive(self) -> dict[str, Any]:
        try:
            reply = self._worker.receive()
        except WorkerDied as death:
            raise self._crash(death) from None
        if "error" not in reply:
            return reply
        kind, cause, fix = (reply["error"][part] for part in ("kind", "cause", "fix"))
        if hit := self._limits.hit(None, cause):
            raise ModelError(f"{cause}; it ran into {hit[0]}", hit[1])
        raise self._kinds.get(kind, ModelError)(cause, fix)

    def _crash(self, death: WorkerDied) -> ModelError:
        process = f"{self._name}: {self._framework}'s process"
        if hit := self._limits.hit(death.returncode, death.log):
            return ModelError(f"{process} ran into {hit[0]}", hit[1])
        how = f"signal {-death.returncode}" if death.returncode < 0 else f"exit {death.returncode}"
        return ModelError(
            f"{process} ended with {how}; its last words:\n{death.log.strip()}",
            "signal 9 is often too little memory; otherwise the words above say why",
        )
