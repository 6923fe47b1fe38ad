"""The agent as the one file that it is on a board: who may run, who recovers at boot, what a bare Python 3.8 makes of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from tests.agent.board import AGENT, Board, Child, Ended, begin, name_of, talk, wait_for
from tests.agent.bundles import release, trust
from tests.trust.bundles import flip
from tests.trust.test_attacks import bare_pythons

SHA256 = sha256(AGENT.read_bytes()).hexdigest()
NAME = "edgepack-agent.pyz"


def install(board: Board, data: bytes | None = None) -> Path:
    """An agent where agents lie, as the host puts it there."""
    data = AGENT.read_bytes() if data is None else data
    place = board.root / "agent" / f"{sha256(data).hexdigest()}.pyz"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(data)
    return place


def started(board: Board, program: Path, *order: str, python: str = sys.executable) -> Child:
    command = [python, "-I", "-S", "-W", "error", str(program)]
    process = subprocess.Popen(
        [*command, "--root", str(board.root), "--app", board.app, *order],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    child = Child(
        pid=process.pid,
        stdin=os.dup(process.stdin.fileno()),
        stdout=os.dup(process.stdout.fileno()),
    )
    process.stdin.close()
    process.stdout.close()
    process.returncode = 0
    return child


def order(board: Board, program: Path, *words: str, says: dict | None = None, **how: str) -> Ended:
    child = started(board, program, *words, **how)
    if says is not None:
        child.say(says)
    messages = list(child.hear_all())
    return Ended(messages=messages, code=child.wait())


def bundle_with_agent(folder: Path, seq: int = 1, agent: bytes | None = None) -> Path:
    return release(folder, seq, more={NAME: AGENT.read_bytes() if agent is None else agent})


@pytest.mark.parametrize("python", bare_pythons())
def test_a_whole_life_in_a_bare_python(bare: Board, tmp_path: Path, python: str) -> None:
    place = install(bare)
    one, two = bundle_with_agent(tmp_path / "1"), bundle_with_agent(tmp_path / "2", 2)
    ended = talk(started(bare, place, "flash", python=python), one, trust_file=trust())
    assert ended.outcome == "committed", ended.done
    ended = talk(started(bare, place, "flash", python=python), two)
    assert ended.outcome == "committed", ended.done
    assert ended.sent == 20_000
    boot = bare.root / "agent" / "current.pyz"
    assert os.readlink(boot) == place.name
    for words, outcome in (
        (("status",), "ok"),
        (("history",), "ok"),
        (("recover",), "unchanged"),
        (("confirm", name_of(two)), "committed"),
        (("doctor",), "ok"),
        (("rollback",), "rolled-back"),
    ):
        assert order(bare, boot, *words, python=python).outcome == outcome
    assert bare.current() == name_of(one)
    assert bare.answers()


def test_the_timer_outlives_the_session_in_which_the_flash_was_begun(
    board: Board, old: Path, new: Path
) -> None:
    def session_ends(child: Child) -> None:
        os.killpg(child.pid, signal.SIGKILL)

    talk(started(board, AGENT, "flash"), new, confirm=session_ends, trial_seconds=2)
    assert board.current() == name_of(new)
    wait_for(lambda: board.state()["trial"] is None)
    assert board.current() == name_of(old)
    assert board.answers()


def test_a_flash_outlives_the_hangup_of_its_terminal(board: Board, new: Path) -> None:
    def hangup(child: Child) -> None:
        os.kill(child.pid, signal.SIGHUP)
        child.say({"type": "confirm"})

    assert talk(started(board, AGENT, "flash"), new, confirm=hangup).outcome == "committed"


def test_an_agent_that_a_trusted_bundle_lists_is_admitted(board: Board, tmp_path: Path) -> None:
    bundle = bundle_with_agent(tmp_path / "b", 2)
    ended = order(board, AGENT, "admit", str(install(board)), says=begin(bundle))
    assert (ended.outcome, ended.done["sha256"]) == ("admitted", SHA256)


def test_an_agent_that_was_changed_is_not_admitted(board: Board, tmp_path: Path) -> None:
    bundle, place = bundle_with_agent(tmp_path / "b", 2), install(board)
    flip(place, 100)
    ended = order(board, AGENT, "admit", str(place), says=begin(bundle))
    assert (ended.outcome, ended.kind) == ("refused", "agent")


def test_an_agent_that_is_not_there_is_not_admitted(board: Board, tmp_path: Path) -> None:
    bundle = bundle_with_agent(tmp_path / "b", 2)
    ended = order(board, AGENT, "admit", str(tmp_path / "none"), says=begin(bundle))
    assert ended.outcome == "refused"


@pytest.mark.parametrize("by", [None, "other"])
def test_an_agent_in_a_bundle_that_nobody_trusts_is_not_admitted(
    board: Board, tmp_path: Path, by: str | None
) -> None:
    bundle = release(tmp_path / "b", 2, by=by, more={NAME: AGENT.read_bytes()})
    ended = order(board, AGENT, "admit", str(install(board)), says=begin(bundle))
    assert ended.outcome == "refused"
    assert ended.kind == ("key-unknown" if by else "signature-missing")


def test_a_bundle_is_flashed_by_the_agent_that_it_brings(board: Board, tmp_path: Path) -> None:
    other = AGENT.read_bytes() + b"another"
    bundle = bundle_with_agent(tmp_path / "b", 2, other)
    ended = talk(started(board, install(board), "flash"), bundle)
    assert (ended.outcome, ended.kind) == ("refused", "agent")


def test_agents_that_no_release_needs_go_with_time(board: Board, tmp_path: Path) -> None:
    def old(data: bytes) -> Path:
        place = install(board, data)
        os.utime(place, (0, 0))
        return place

    place = install(board)
    unused, fresh = old(b"unused"), install(board, b"just put there")
    needed = old(b"of an app beside it")
    other = Board(root=board.root, app="faces")
    beside = release(tmp_path / "faces", 1, app="faces", more={NAME: b"of an app beside it"})
    shutil.copytree(beside, other.folder / "releases" / name_of(beside))
    ended = talk(started(board, place, "flash"), bundle_with_agent(tmp_path / "b", 2))
    assert ended.outcome == "committed", ended.done
    assert not unused.exists()
    assert fresh.exists()
    assert needed.exists()
    assert place.exists()


def test_a_journal_that_grows_long_keeps_its_newer_half(board: Board, new: Path) -> None:
    journal = board.folder / "journal.jsonl"
    line = json.dumps({"event": "old", "text": "x" * 1000}).encode() + b"\n"
    journal.write_bytes(line * 5000)
    assert board.flash(new).outcome == "committed"
    assert journal.stat().st_size < 3 << 20
    events = board.events()
    assert events[0] == "old"
    assert events[-1] == "ended"
