"""Real file systems in mount namespaces of their own: one that is full, one that was mounted read-only in the middle of things."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.agent.board import (
    Board,
    Child,
    Message,
    name_of,
    send,
    swift,
    talk,
    vanish,
    without_timer,
)
from tests.agent.bundles import release

_CLONE_NEWNS = 0x00020000


@contextmanager
def disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of that size, which this process and its children see and nobody else."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("only root mounts")
    working = Path.cwd()
    here = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(_CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
    try:
        _mount("--make-rprivate", "/")
        folder.mkdir()
        _mount("-t", "tmpfs", "-o", f"size={kilobytes}k,mode=755", "edgepack", str(folder))
        yield folder
    finally:
        assert libc.setns(here, _CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        os.close(here)
        # setns(2) leaves the process at the root.
        os.chdir(working)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the space that is left."""
    path = folder / "full"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return path


def board_on(flashed: Board, folder: Path) -> Board:
    board = flashed.copy(folder / "root")
    board.patches += [without_timer, swift]
    return board


def test_a_disk_that_is_full_already_is_found_before_a_byte_is_written(
    flashed: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        fill(folder)
        ended = board.flash(new)
        assert (ended.outcome, ended.kind) == ("refused", "disk"), ended.done
        assert board.current() == name_of(old)
        assert board.answers()


def test_a_first_flash_on_a_full_disk_is_refused(old: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = Board(root=folder / "root", patches=[without_timer, swift])
        fill(folder)
        ended = board.flash(old, allow_unsigned=True)
        assert (ended.outcome, ended.kind) == ("refused", "disk"), ended.done


#: When the disk fills up, as a flash goes on: at each state that is entered.
STATES = ("STAGE", "BUILD", "PROBE", "ARM", "SWITCH", "TRIAL")


class Filler:
    """Fills the disk as the agent enters a state."""

    def __init__(self, folder: Path, state: str) -> None:
        self.folder, self.state = folder, state

    def patch(self) -> None:
        from edgepack_agent.conversation import Channel

        said = Channel.say

        def say(channel: Channel, kind: str, **fields: object) -> None:
            said(channel, kind, **fields)
            if fields.get("state") == self.state:
                fill(self.folder)

        Channel.say = say


@pytest.mark.parametrize("state", STATES)
def test_a_disk_that_fills_up_in_a_flash_leaves_the_old_release_running(
    flashed: Board, old: Path, new: Path, tmp_path: Path, state: str
) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        before = board.state()
        board.patches.append(Filler(folder, state).patch)
        ended = board.flash(new)
        assert ended.outcome in ("failed", "rolled-back"), ended.done
        assert ended.kind == "disk"
        assert board.current() == name_of(old)
        assert board.answers()
        assert board.state() == before
        (folder / "full").unlink()
        board.patches.pop()
        assert board.flash(new).outcome == "committed"


def test_a_disk_that_fills_up_while_the_host_uploads_costs_the_flash_and_nothing_else(
    flashed: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    def upload(bundle: Path, need: Message) -> None:
        send(bundle, need, until=need["offset"] + 4096)
        fill(folder)

    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        child = board.start("flash")

        with pytest.raises(OSError, match="No space left"):
            talk(child, new, upload=lambda b, n: (upload(b, n), send(b, {**n, "offset": 4096})))
        child.wait()
        assert board.current() == name_of(old)
        assert board.answers()
        (folder / "full").unlink()
        ended = board.flash(new)
        assert ended.outcome == "committed", ended.done
        assert ended.sent < 20_000


@pytest.mark.parametrize("how", ["the host is silent", "the host confirms", "the board is told to"])
def test_a_trial_ends_well_on_a_full_disk(
    flashed: Board, old: Path, new: Path, tmp_path: Path, how: str
) -> None:
    """The way back was laid before: it takes no space."""

    def when_asked(child: Child) -> None:
        fill(folder)
        if how == "the host confirms":
            child.say({"type": "confirm"})
        elif how == "the board is told to":
            vanish(child)

    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        ended = board.flash(new, confirm=when_asked, trial_seconds=1)
        if how == "the board is told to":
            ended = board.order("rollback")
        assert ended.outcome == "rolled-back", ended.done
        assert board.current() == name_of(old)
        assert board.state()["trial"] is None
        assert board.answers()


def test_a_rollback_to_the_previous_release_works_on_a_full_disk_or_changes_nothing(
    flashed: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        assert board.flash(new).outcome == "committed"
        fill(folder)
        ended = board.order("rollback")
        assert ended.outcome in ("rolled-back", "failed"), ended.done
        assert board.current() == name_of(old if ended.outcome == "rolled-back" else new)
        assert board.answers()


def test_a_damaged_release_is_left_for_the_previous_one_on_a_full_disk(
    flashed: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        assert board.flash(new).outcome == "committed"
        own = board.folder / "current/model/own.bin"
        own.write_bytes(b"?" * own.stat().st_size)
        fill(folder)
        board.order("recover")
        assert board.current() == name_of(old)
        assert board.answers()


def read_only(folder: Path) -> None:
    _mount("-o", "remount,ro", str(folder))


def writable(folder: Path) -> None:
    _mount("-o", "remount,rw", str(folder))


@pytest.mark.parametrize("order", ["flash", "rollback", "recover", "status", "history", "confirm"])
def test_a_read_only_disk_is_named_and_nothing_is_lost(
    flashed: Board, old: Path, new: Path, tmp_path: Path, order: str
) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        assert board.flash(new).outcome == "committed"
        read_only(folder)
        if order == "flash":
            ended = board.flash(release(tmp_path / "3", 3))
            assert (ended.outcome, ended.kind) == ("refused", "read-only"), ended.done
        elif order == "rollback":
            ended = board.order("rollback")
            assert (ended.outcome, ended.kind) == ("failed", "read-only"), ended.done
        else:
            ended = board.order(order, *([name_of(new)] if order == "confirm" else []))
            assert ended.code == 0, ended.done
        assert board.current() == name_of(new)
        assert board.answers()
        writable(folder)
        assert board.order("rollback").outcome == "rolled-back"
        assert board.answers()


def test_a_first_flash_to_a_read_only_disk_is_refused(old: Path, tmp_path: Path) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = Board(root=folder / "root", patches=[without_timer, swift])
        read_only(folder)
        ended = board.flash(old, allow_unsigned=True)
        assert (ended.outcome, ended.kind) == ("refused", "read-only"), ended.done
        assert list(folder.iterdir()) == []


def test_a_disk_that_turns_read_only_in_a_trial_is_said_and_the_next_recovery_goes_back(
    flashed: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    with disk(tmp_path / "disk", 4096) as folder:
        board = board_on(flashed, folder)
        ended = board.flash(new, confirm=lambda child: read_only(folder), trial_seconds=1)
        assert (ended.outcome, ended.kind) == ("stuck", "read-only"), ended.done
        assert board.current() == name_of(new)
        assert board.answers()
        writable(folder)
        assert board.order("recover").outcome == "rolled-back"
        assert board.current() == name_of(old)
        assert board.answers()
