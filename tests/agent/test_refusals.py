"""What must not come is refused for its reason, before a byte is written, and the board runs what it ran."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.agent.board import Board, begin, send, swift, talk
from tests.agent.cases import CASES, Case
from tests.trust.bundles import snapshot


def files_below(folder: Path) -> dict[str, object]:
    """All that lies there but the lock, which is taken to look."""
    found = snapshot(folder) if folder.exists() else {}
    return {name: about for name, about in found.items() if name != "lock"}


def test_the_table_is_long_enough() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 90


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_is_refused_and_nothing_is_written(
    case: Case, board: Board, bare: Board, new: Path, tmp_path: Path
) -> None:
    where = bare if case.bare else board
    where.root = where.root if not case.bare else tmp_path / "bare"
    bundle = Path(shutil.copytree(new, tmp_path / "bundle"))
    case.does(bundle)
    where.patches.append(swift)
    case.board(where)
    runs, before = where.current(), files_below(where.folder)
    message = begin(bundle, trust_file=case.trust_file(), **case.options)
    case.says(message)

    ended = talk(where.start("flash"), bundle, message=message)

    assert (ended.outcome, ended.kind) == ("refused", case.kind), ended.done
    assert case.cause in ended.done["error"]["cause"]
    assert ended.done["error"]["fix"]
    assert ended.code == 1
    assert not [m for m in ended.messages if m["type"] == "need"]
    assert files_below(where.folder) == before
    assert where.current() == runs == ended.done.get("release", runs)


@pytest.mark.parametrize("line", [b"", b"flash!\n", b"[]\n", b"{}\n", b'{"type": 1}\n', b"\xff\n"])
def test_what_is_no_message_is_refused(board: Board, line: bytes) -> None:
    before = files_below(board.folder)
    child = board.start("flash")
    child.say(line)
    child.hang_up_in()
    messages = list(child.hear_all())
    child.wait()
    assert messages[-1]["outcome"] == "refused"
    assert messages[-1]["error"]["kind"] == "protocol"
    assert files_below(board.folder) == before


@pytest.mark.parametrize("app", ["../digits", "", "a/b", ".hidden", "a\nb"])
def test_an_app_that_is_a_path_is_refused(board: Board, app: str) -> None:
    before = files_below(board.root)
    elsewhere = Board(root=board.root, app=app)
    assert elsewhere.order("status").kind == "usage"
    assert files_below(board.root) == before


def test_a_second_flash_names_who_holds_the_lock(board: Board, new: Path, old: Path) -> None:
    first = board.start("flash")
    first.say(begin(new))
    while first.hear()["type"] != "need":  # type: ignore[index]
        pass
    second = board.flash(old)
    assert (second.outcome, second.kind) == ("refused", "locked")
    assert "a flash from ada@workshop" in second.done["error"]["cause"]
    assert "a flash from ada@workshop" in board.order("status").done["status"]["lock"]
    first.say({"type": "uploaded"})
    first.hang_up()
    first.wait()
    assert board.order("status").done["status"]["lock"] is None


def test_a_flash_during_a_trial_is_refused_and_the_trial_goes_on(
    quiet: Board, new: Path, old: Path
) -> None:
    trial = quiet.start("flash")
    trial.say(begin(new))
    said: dict = {}
    while said.get("type") != "confirm?":
        said = trial.hear() or {}
        if said["type"] == "need":
            for need in said["files"]:
                send(new, need)
            trial.say({"type": "uploaded"})
    second = quiet.flash(old)
    assert (second.outcome, second.kind) == ("refused", "trial")
    trial.say({"type": "confirm"})
    assert list(trial.hear_all())[-1]["outcome"] == "committed"
    trial.wait()


def test_what_nobody_vouches_for_is_journalled(board: Board, new: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(new, tmp_path / "bundle"))
    (bundle / "manifest.sig").unlink()
    ended = board.flash(bundle, allow_unsigned=True)
    assert ended.outcome == "committed", ended.done
    lines = (board.folder / "journal.jsonl").read_text().splitlines()
    assert [e["release"] for e in map(json.loads, lines) if e.get("unsigned")] == [board.current()]
