"""A home of our own, with keys and known_hosts; boards in this process; a small bundle."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import asyncssh
import pytest

from edgepack.flash.host import Host, parse_host
from tests.flash.boards import Cable, LocalBoard, cable, local_board
from tests.flash.bundles import make, some_bytes


@pytest.fixture(autouse=True, scope="module")
def no_browser() -> None:
    """A Chromium that earlier tests left open ends: see `close`."""
    if browser := sys.modules.get("tests.device.javascript.browser"):
        browser.close()


@pytest.fixture(scope="session")
def user_key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.fixture
def home(tmp_path: Path, user_key: asyncssh.SSHKey, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home: a key in ~/.ssh, no known_hosts, no ssh-agent."""
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True, mode=0o700)
    user_key.write_private_key(folder / ".ssh/id_ed25519")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder


@pytest.fixture
def boards(
    home: Path, tmp_path: Path, user_key: asyncssh.SSHKey
) -> Iterator[Callable[[], LocalBoard]]:
    """Makes boards that known_hosts knows."""
    with ExitStack() as stack:
        count = 0

        def new() -> LocalBoard:
            nonlocal count
            count += 1
            root = tmp_path / f"board-{count}"
            root.mkdir()
            board = stack.enter_context(local_board(root, user_key))
            with (home / ".ssh/known_hosts").open("a") as file:
                file.write(board.known())
            return board

        yield new


@pytest.fixture
def board(boards: Callable[[], LocalBoard]) -> LocalBoard:
    return boards()


@pytest.fixture
def line(board: LocalBoard, home: Path) -> Iterator[Cable]:
    """A cable to the board, whose end known_hosts knows too."""
    with cable(board.port) as line:
        with (home / ".ssh/known_hosts").open("a") as file:
            file.write(board.known().replace(str(board.port), str(line.port)))
        yield line


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A signed bundle with 6 MB of model, a small file, and the fake agent."""
    files = {"model/m.onnx": some_bytes(6_000_000), "golden/0/x.bin": b"x" * 64}
    return make(tmp_path / "bundle", files)


def host_of(board: LocalBoard, port: int | None = None, **changes: object) -> Host:
    """How a board is reached, its root included."""
    host = parse_host(f"127.0.0.1:{port or board.port}")
    return Host(**{**vars(host), "root": str(board.root), **changes})  # type: ignore[arg-type]
