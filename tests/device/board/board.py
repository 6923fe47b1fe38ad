"""An arm64 Debian board: real arm64 programs, run by qemu (see enter.py).

    with Board.fresh() as board:
        board.put(bundle, "/home/edge/bundle")
        done = board.run(["python3", "bundle/loader/edgepack_loader.py", "self-test"])

The image comes from tests/setup/board.sh: Python 3.11 with numpy and onnxruntime, sshd, the users root and `edge`.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CACHE, ROOT, need

HERE = Path(__file__).parent
SETUP = ROOT / "tests" / "setup" / "board.sh"
ROOT_UID, EDGE_UID = 0, 1000


class Board:
    """A board of its own: what is written stays until the block ends. Commands run one after another, each after a boot.

    Attributes:
        image: what every board starts from, as it lies on this machine.
    """

    def __init__(self, image: Path, layer: Path) -> None:
        self.image, self._layer = image, layer

    @staticmethod
    @contextmanager
    def fresh() -> Iterator[Board]:
        """A board as it comes out of the box."""
        kernel = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2])
        if os.geteuid() != 0 or kernel < (6, 7):
            why = f"root boots the board, on Linux 6.7 or newer (this is {os.uname().release})"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
        digest = hashlib.sha256(SETUP.read_bytes()).hexdigest()[:16]
        image = need(CACHE / "board" / digest, "board.sh")
        layer = Path(tempfile.mkdtemp(prefix="board."))
        try:
            layer.chmod(0o755)
            yield Board(image, layer)
        finally:
            shutil.rmtree(layer)

    def put(self, source: Path, place: str, uid: int = EDGE_UID) -> None:
        """Copy a file or folder to an absolute place, as that user's."""
        target = self._layer / "upper" / place.lstrip("/")
        self._make(target.parent)
        if source.is_dir():
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)
        for path in (target, *target.rglob("*")):
            os.chown(path, uid, uid)

    def get(self, place: str) -> Path:
        """Where a file that was written on the board lies outside."""
        return self._layer / "upper" / place.lstrip("/")

    def run(
        self, command: Sequence[str], uid: int = EDGE_UID, timeout_s: float = 240, **more: Any
    ) -> subprocess.CompletedProcess[str]:
        """Boot, run a command in the user's home, and wait for it."""
        return subprocess.run(
            self.command(command, uid), capture_output=True, text=True, timeout=timeout_s, **more
        )

    def command(self, command: Sequence[str], uid: int = EDGE_UID) -> list[str]:
        """The command of this machine that runs `command` on the board; kill it to cut the power."""
        here = [self.image.resolve(), self._layer, uid]
        return [sys.executable, str(HERE / "enter.py"), *map(str, here), *command]

    def _make(self, folder: Path) -> None:
        """Folders above what is put, owned as in the image."""
        upper = self._layer / "upper"
        for above in (*reversed(folder.relative_to(upper).parents), folder.relative_to(upper)):
            place, given = upper / above, self.image / above
            if not place.exists():
                place.mkdir()
                if given.exists():
                    info = given.stat()
                    os.chown(place, info.st_uid, info.st_gid)
                    place.chmod(info.st_mode & 0o7777)
