"""Whatever lies on the disk, recovery leaves a release that is whole as current, or stops and says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.agent.board import Board, name_of, swift
from tests.agent.bundles import release, trust
from tests.agent.cases import year_1970
from tests.trust.bundles import flip


@dataclass(frozen=True, kw_only=True)
class Wreck:
    """What happened to a board that runs release 2 and keeps release 1, and where recovery leaves it."""

    name: str
    does: Callable[[Board], object]
    current: int | None = 2
    outcome: str = "unchanged"


def text(name: str, content: str | bytes) -> Callable[[Board], object]:
    data = content if isinstance(content, bytes) else content.encode()
    return lambda board: (board.folder / name).write_bytes(data)


def link(name: str, target: str) -> Callable[[Board], object]:
    return lambda board: (
        (board.folder / name).unlink(missing_ok=True),
        (board.folder / name).symlink_to(target),
    )


def state(**changes: object) -> Callable[[Board], object]:
    return lambda board: text("state.json", json.dumps({**board.state(), **changes}))(board)


def damage(seq: int, file: str = "model/own.bin") -> Callable[[Board], object]:
    return lambda board: flip(next((board.folder / "releases").glob(f"{seq}-*")) / file)


def both(*steps: Callable[[Board], object]) -> Callable[[Board], object]:
    return lambda board: [step(board) for step in steps]


def lose(seq: int, file: str = "") -> Callable[[Board], object]:
    def remove(board: Board) -> None:
        path = next((board.folder / "releases").glob(f"{seq}-*")) / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def leftovers(board: Board) -> None:
    (board.folder / "releases/.tmp-9-0123456789ab/model").mkdir(parents=True)
    (board.folder / "releases/.tmp-9-0123456789ab/model/own.bin").write_bytes(b"half")
    (board.folder / "releases/.tmp-gone-3-0123456789ab").mkdir()
    for name in (".state.json.tmp", ".state.back", ".trust.json.tmp"):
        (board.folder / name).write_bytes(b"half")
    for name in (".current.tmp", ".previous.tmp", ".current.back"):
        (board.folder / name).symlink_to("releases/9-0123456789ab")


# fmt: off
WRECKS = (
    Wreck(name="nothing", does=lambda b: None),
    Wreck(name="state.json is gone", does=lambda b: (b.folder / "state.json").unlink()),
    Wreck(name="state.json is empty", does=text("state.json", "")),
    Wreck(name="state.json is cut off", does=lambda b: os.truncate(b.folder / "state.json", 30)),
    Wreck(name="state.json is no text", does=text("state.json", b"\xff\xfe\0")),
    Wreck(name="state.json is a list", does=text("state.json", "[]")),
    Wreck(name="state.json is of another schema", does=state(schema=2)),
    Wreck(name="state.json names a path", does=state(committed="../../etc")),
    Wreck(name="state.json has a trial that is none", does=state(trial={"release": "x"})),
    Wreck(name="state.json has a trial of nothing that is there", current=2, outcome="rolled-back", does=state(trial={
        "release": "9-0123456789ab", "flash_id": "x", "by": "x", "boot_id": "x", "deadline": 0, "phase": "armed", "options": {}})),
    Wreck(name="state.json has options that are a list", does=state(options=[])),
    Wreck(name="state.json is spoilt in a trial", current=1, does=both(
        lambda b: (b.folder / ".state.back").write_text(json.dumps({
            **b.state(), "committed": b.previous(), "previous": None})), text("state.json", "spoilt"))),
    Wreck(name="state.json and the way back are spoilt", does=both(text(".state.back", "{"), text("state.json", "{"))),
    Wreck(name="current is gone", does=lambda b: (b.folder / "current").unlink()),
    Wreck(name="current leads to nothing", does=link("current", "releases/9-0123456789ab")),
    Wreck(name="current leads out of the app", does=link("current", "/etc")),
    Wreck(name="current leads to the previous release", does=lambda b: link("current", f"releases/{b.previous()}")(b)),
    Wreck(name="current and state are gone", current=None, does=both(
        lambda b: (b.folder / "current").unlink(), lambda b: (b.folder / "state.json").unlink())),
    Wreck(name="previous is gone", does=lambda b: (b.folder / "previous").unlink()),
    Wreck(name="previous leads elsewhere", does=link("previous", "../../..")),
    Wreck(name="the journal's last line is torn", does=lambda b: os.truncate(
        b.folder / "journal.jsonl", (b.folder / "journal.jsonl").stat().st_size - 5)),
    Wreck(name="the journal is no text", does=text("journal.jsonl", b"\xff\0\n\xfe")),
    Wreck(name="the journal is gone", does=lambda b: (b.folder / "journal.jsonl").unlink()),
    Wreck(name="the lock is gone", does=lambda b: (b.folder / "lock").unlink()),
    Wreck(name="the lock's text is no text", does=text("lock", b"\xff\xfe")),
    Wreck(name="leftovers of an earlier run", does=leftovers),
    Wreck(name="a program left compiled files", does=lambda b: (b.folder / "current/loader/__pycache__").mkdir()),
    Wreck(name="incoming is gone", does=lambda b: shutil.rmtree(b.folder / "incoming")),
    Wreck(name="the clock is at 1970", does=lambda b: b.patches.append(year_1970)),
    Wreck(name="the trust file is gone", does=lambda b: (b.folder / "trust.json").unlink()),
    Wreck(name="a byte of the current release changed", current=1, outcome="rolled-back", does=damage(2)),
    Wreck(name="a file of the current release is gone", current=1, outcome="rolled-back", does=lose(2, "empty.txt")),
    Wreck(name="the current release is gone", current=1, outcome="rolled-back", does=lose(2)),
    Wreck(name="the current release's manifest changed", current=1, outcome="rolled-back", does=damage(2, "manifest.json")),
    Wreck(name="state.json is gone and the current release damaged", current=1, does=both(
        lambda b: (b.folder / "state.json").unlink(), damage(2))),
    Wreck(name="the previous release is damaged", does=damage(1)),
    Wreck(name="both releases are damaged", outcome="stuck", does=both(damage(1), damage(2))),
    Wreck(name="both releases are gone", outcome="stuck", does=both(lose(1), lose(2))),
)
# fmt: on


@pytest.fixture(scope="module")
def two(flashed: Board, new: Path, tmp_path_factory: pytest.TempPathFactory) -> Board:
    """A board that runs release 2 and keeps release 1."""
    board = flashed.copy(tmp_path_factory.mktemp("two") / "root")
    assert board.flash(new).outcome == "committed"
    return board


@pytest.mark.parametrize("wreck", WRECKS, ids=lambda wreck: wreck.name)
def test_recovery_leaves_a_whole_release_or_says_that_there_is_none(
    wreck: Wreck, two: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    board = two.copy(tmp_path / "root")
    board.patches.append(swift)
    wreck.does(board)
    names = {1: name_of(old), 2: name_of(new), None: None}

    ended = board.order("recover")

    assert ended.outcome == wreck.outcome, ended.done
    assert board.current() == names[wreck.current]
    assert board.answers() is (wreck.current is not None and wreck.outcome != "stuck")
    hidden = [p for p in board.folder.rglob(".*")]
    assert not hidden
    again = board.order("recover")
    assert again.outcome == ("stuck" if wreck.outcome == "stuck" else "unchanged"), again.done
    assert board.current() == names[wreck.current]
    # And a flash puts everything right.
    ended = board.flash(release(tmp_path / "3", 3), trust_file=trust_if_gone(board))
    assert ended.outcome == ("refused" if year_1970 in board.patches else "committed"), ended.done
    assert board.answers()


def trust_if_gone(board: Board) -> bytes | None:
    return None if (board.folder / "trust.json").exists() else trust()


def test_the_journal_keeps_what_was_whole(two: Board, tmp_path: Path) -> None:
    board = two.copy(tmp_path / "root")
    journal = board.folder / "journal.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(whole) + b'{"event": "half')
    assert len(board.order("history").done["events"]) == len(whole)
    board.order("rollback")
    lines = journal.read_bytes().splitlines(keepends=True)
    assert lines[: len(whole)] == whole
    assert all(json.loads(line) for line in lines)


def test_a_damaged_release_is_replaced_by_the_same_one(
    board: Board, old: Path, tmp_path: Path
) -> None:
    board.patches.append(swift)
    flip(board.folder / "current/model/own.bin")
    ended = board.flash(old)
    assert ended.outcome == "committed", ended.done
    assert ended.sent == 20_000
    assert board.current() == name_of(old)
    assert board.answers()
