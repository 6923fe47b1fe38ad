"""The power goes: what was written and not synced is lost. A board boots with the old release or the new one, whole."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.agent import disks
from tests.agent.board import Board, name_of, rebooted, swift, vanish, without_timer
from tests.agent.bundles import trust
from tests.agent.faults import Fault

#: Change it with EDGEPACK_SEED; EDGEPACK_POINTS=all takes every point.
SEED = int(os.environ.get("EDGEPACK_SEED", "20261126"))
POINTS = 12
ALL = os.environ.get("EDGEPACK_POINTS") == "all"


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory, old: Path) -> Path:
    """A disk on which release 1 is committed."""
    disks.require_loop_devices()
    disk = disks.make(tmp_path_factory.mktemp("disk") / "flashed")
    with disks.mounted(disk) as folder:
        ended = on(folder).flash(old, trust_file=trust())
        assert ended.outcome == "committed", ended.done
    return disk


def on(folder: Path) -> Board:
    return Board(root=folder / "root", patches=[without_timer, swift])


@pytest.fixture(scope="module")
def points(disk: Path, new: Path, tmp_path_factory: pytest.TempPathFactory) -> list[int]:
    """Operations of a flash of release 2 before which the power goes."""
    whole = disks.duplicate(disk, tmp_path_factory.mktemp("whole") / "disk")
    with disks.mounted(whole) as folder:
        board = on(folder)
        ended = board.flash(new, fault=Fault())
        assert ended.outcome == "committed", ended.done
        count = len(board.operations())
    assert count > 60
    every = list(range(count))
    return every if ALL else sorted(random.Random(SEED).sample(every, POINTS))


def test_a_board_that_loses_power_boots_with_one_release_whole(
    disk: Path, points: list[int], old: Path, new: Path, tmp_path: Path
) -> None:
    seen = set()
    for at in points:
        left = power_goes(
            disk, lambda folder, fault: on(folder).flash(new, fault=fault), at, tmp_path
        )
        with disks.mounted(left) as folder:
            board = booted(folder)
            ended = board.order("recover")
            where = f"operation {at}, seed {SEED}: {ended.messages}"
            assert board.current() in (name_of(old), name_of(new)), where
            assert board.answers(), where
            seen.add(board.current())
            again = board.flash(new)
            assert again.outcome in ("committed", "unchanged"), f"{where}, then {again.done}"
            assert (board.current(), board.answers()) == (name_of(new), True), where
        left.unlink()
    assert name_of(old) in seen


def test_a_board_that_loses_power_again_as_it_goes_back_boots_with_the_old_release(
    disk: Path, old: Path, new: Path, tmp_path: Path
) -> None:
    in_trial = disks.duplicate(disk, tmp_path / "trial")
    with disks.mounted(in_trial) as folder:
        on(folder).flash(new, confirm=vanish)
    whole = disks.duplicate(in_trial, tmp_path / "whole")
    with disks.mounted(whole) as folder:
        board = booted(folder)
        assert board.order("recover", fault=Fault()).outcome == "rolled-back"
        every = range(len(board.operations()))
    points = every if ALL else random.Random(SEED).sample(every, 4)
    for at in points:
        left = power_goes(
            in_trial,
            lambda folder, fault: booted(folder).order("recover", fault=fault),
            at,
            tmp_path,
        )
        with disks.mounted(left) as folder:
            board = booted(folder)
            ended = board.order("recover")
            where = f"operation {at}, seed {SEED}: {ended.messages}"
            assert (board.current(), board.answers()) == (name_of(old), True), where
            assert board.state()["trial"] is None, where
        left.unlink()


def booted(folder: Path) -> Board:
    board = on(folder)
    board.patches.append(rebooted)
    return board


def power_goes(disk: Path, run: Callable[[Path, Fault], object], at: int, folder: Path) -> Path:
    """What is left of the disk when the power goes before that operation."""
    running = disks.duplicate(disk, folder / "running")
    with disks.mounted(running) as place:
        run(place, Fault(at=at))
        left = disks.duplicate(running, folder / f"left-{at}")
    running.unlink()
    return left


def test_a_release_that_was_said_to_be_committed_is_still_there_after_the_power_went(
    disk: Path, new: Path, tmp_path: Path
) -> None:
    running = disks.duplicate(disk, tmp_path / "running")
    with disks.mounted(running) as place:
        assert on(place).flash(new).outcome == "committed"
        left = disks.duplicate(running, tmp_path / "left")
    with disks.mounted(left) as place:
        board = on(place)
        assert board.current() == name_of(new)
        assert board.state()["committed"] == name_of(new)
        assert board.answers()


def files_are_not_synced() -> None:
    """An agent that forgets to sync what it writes, and syncs the names alone."""
    real = os.fsync

    def forgetful(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            real(descriptor)

    os.fsync = forgetful


def test_an_agent_that_did_not_sync_its_files_would_lose_them(
    disk: Path, new: Path, tmp_path: Path
) -> None:
    """Without this the tests above could not fail."""
    running = disks.duplicate(disk, tmp_path / "running")
    with disks.mounted(running) as place:
        board = on(place)
        board.patches.append(files_are_not_synced)
        assert board.flash(new).outcome == "committed"
        left = disks.duplicate(running, tmp_path / "left")
    with disks.mounted(left) as place:
        board = on(place)
        assert board.current() == name_of(new)
        assert not board.answers()


def test_what_is_not_synced_is_lost_on_these_disks(tmp_path: Path) -> None:
    disks.require_loop_devices()
    disk = disks.make(tmp_path / "disk")
    with disks.mounted(disk) as place:
        (place / "careless").write_bytes(b"x" * 9000)
        os.rename(place / "careless", place / "renamed")
        left = disks.duplicate(disk, tmp_path / "left")
    with disks.mounted(left) as place:
        names = set(os.listdir(place)) - {"lost+found"}
        assert not names or (place / "renamed").stat().st_size == 0
