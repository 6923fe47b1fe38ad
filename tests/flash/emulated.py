"""The emulated arm64 board of tests/device/board, as tests of flashing use it: what runs on it can be found and killed from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

from tests.device.board.board import Board
from tests.device.board.ssh import Remote, sshd


class Emulated:
    """A board that is up. Its disk and keys stay through `cut_power` and `boot`.

    Attributes:
        remote: how it is reached since its last boot.
    """

    def __init__(self, board: Board) -> None:
        self.board = board
        self._keys = Path(tempfile.mkdtemp(prefix="board-keys."))
        self._stack = ExitStack()
        self.boot()

    def boot(self) -> None:
        """Start it; it has a new port each time."""
        self._stack.close()
        self.remote: Remote = self._stack.enter_context(sshd(self.board, self._keys))

    def cut_power(self) -> None:
        """Nothing on it goes on."""
        self.remote.cut_power()

    def close(self) -> None:
        """It is gone."""
        self._stack.close()
        shutil.rmtree(self._keys)

    def known(self, port: int | None = None) -> str:
        """Its line in known_hosts, behind a cable's port if one is given."""
        line = (self.remote.keys / "known_hosts").read_text()
        return line.replace(f"]:{self.remote.port} ", f"]:{port or self.remote.port} ")

    def agents(self) -> list[int]:
        """Processes here that are agents at a flash there."""
        return [
            p for p in _below(self.remote.process.pid) if _runs(p, ".pyz") and _runs(p, "flash")
        ]

    def connections(self) -> list[int]:
        """Processes here that hold sshd's connections there."""
        listener = _listener(self.remote.process.pid)
        first = _children(listener)
        return first + [p for f in first for p in _children(f) if not _runs(p, ".pyz")]

    def kill(self, processes: list[int]) -> None:
        """SIGKILL to each of them."""
        for process in processes:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def folder(self, root: str) -> Path:
        """Where a folder that was made there lies here."""
        return self.board.get(root)


@contextmanager
def emulated() -> Iterator[Emulated]:
    """A board out of the box, up while the block runs."""
    with Board.fresh() as board:
        it = Emulated(board)
        try:
            yield it
        finally:
            it.close()


def current(app: Path) -> str | None:
    """The release that `current` of an app's folder leads to, each file of which is the manifest's; None: there is none.

    Raises:
        AssertionError: it leads nowhere, or a file is not what the manifest says.
    """
    link = app / "current"
    if not link.is_symlink():
        return None
    name = os.readlink(link)
    release = app / name
    text = (release / "manifest.json").read_bytes()
    assert Path(name).name.endswith(sha256(text).hexdigest()[:12]), name
    for file in json.loads(text)["files"]:
        data = (release / file["path"]).read_bytes()
        assert sha256(data).hexdigest() == file["sha256"], (name, file["path"])
    return Path(name).name


def _children(process: int) -> list[int]:
    try:
        tasks = Path(f"/proc/{process}/task").iterdir()
        return [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except OSError:
        return []


def _below(process: int) -> list[int]:
    found = _children(process)
    return found + [below for child in found for below in _below(child)]


def _runs(process: int, word: str) -> bool:
    try:
        return word.encode() in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


def _listener(process: int) -> int:
    """sshd: the first that was started there."""
    while not _runs(process, "/usr/sbin/sshd") or _runs(process, "enter.py"):
        (process,) = _children(process)[:1]
    return process
