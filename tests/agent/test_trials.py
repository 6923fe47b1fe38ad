"""A release that is switched to proves itself, or the board is back on the old one, which answers."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.agent.board import (
    Board,
    Child,
    begin,
    kill,
    name_of,
    rebooted,
    send,
    swift,
    vanish,
    wait_for,
)
from tests.agent.bundles import release, trust
from tests.trust.bundles import flip

FAILS = [sys.executable, "-c", "import sys; sys.exit('no answer')"]
HANGS = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def quiet(quiet: Board) -> Board:
    quiet.patches.append(swift)
    return quiet


def only_new(board: Board, new: Path) -> list[str]:
    """A command that fails if the new release is current."""
    link = str(board.folder / "current")
    return [
        sys.executable,
        "-c",
        f"import os, sys; sys.exit({name_of(new)!r} in os.readlink({link!r}))",
    ]


PROBES: dict[str, Callable[[Board, Path], dict[str, Any]]] = {
    "the probe says no": lambda b, n: {"probe": only_new(b, n), "probe_seconds": 1},
    "the restart fails": lambda b, n: {"restart": only_new(b, n)},
}


@pytest.mark.parametrize("name", PROBES)
@pytest.mark.parametrize("unattended", [False, True])
def test_a_release_that_fails_in_its_trial_is_rolled_back(
    quiet: Board, old: Path, new: Path, name: str, unattended: bool
) -> None:
    before = quiet.state()
    ended = quiet.flash(new, unattended=unattended, **PROBES[name](quiet, new))
    assert (ended.outcome, ended.done["state"]) == ("rolled-back", "TRIAL"), ended.done
    assert quiet.current() == ended.done["release"] == name_of(old)
    assert quiet.answers()
    assert quiet.state() == before


@pytest.mark.parametrize("probe", [FAILS, HANGS, ["/no/such/program"]])
def test_a_probe_that_fails_on_both_releases_leaves_the_board_stuck_on_the_old_one(
    quiet: Board, old: Path, new: Path, probe: list[str]
) -> None:
    ended = quiet.flash(new, probe=probe, probe_seconds=1)
    assert ended.outcome == "stuck", ended.done
    assert quiet.current() == name_of(old)
    assert quiet.answers()


@pytest.mark.parametrize("does", ["miss", "crash", "hang"])
def test_a_release_that_does_not_answer_is_never_switched_to(
    quiet: Board, old: Path, tmp_path: Path, does: str
) -> None:
    before = quiet.state()
    ended = quiet.flash(release(tmp_path / "b", 2, does=does), engine_seconds=1)
    assert (ended.outcome, ended.kind, ended.done["state"]) == ("failed", "probe", "PROBE")
    assert quiet.current() == name_of(old)
    assert quiet.answers()
    assert quiet.state() == before


def test_a_release_that_answers_staged_and_not_as_current_is_rolled_back(
    quiet: Board, old: Path, tmp_path: Path
) -> None:
    ended = quiet.flash(release(tmp_path / "b", 2, does="answer once"), unattended=True)
    assert (ended.outcome, ended.kind) == ("rolled-back", "probe"), ended.done
    assert quiet.current() == name_of(old)
    assert quiet.answers()


def test_a_first_release_that_fails_leaves_none(bare: Board, tmp_path: Path) -> None:
    bundle = release(tmp_path / "b", 1, does="answer once")
    ended = bare.flash(bundle, trust_file=trust())
    assert (ended.outcome, ended.done["release"]) == ("rolled-back", None)
    assert not (bare.folder / "current").is_symlink()
    assert bare.state()["committed"] is None
    assert bare.order("recover").outcome == "unchanged"
    assert bare.flash(release(tmp_path / "c", 2)).outcome == "committed"


def test_the_boards_own_probes_decide_where_nobody_attends(quiet: Board, new: Path) -> None:
    ended = quiet.flash(new, unattended=True, confirm=False)
    assert ended.outcome == "committed", ended.done
    assert not [m for m in ended.messages if m["type"] == "confirm?"]


def test_a_host_that_does_not_confirm_in_time_gets_the_old_release_back(
    quiet: Board, old: Path, new: Path
) -> None:
    ended = quiet.flash(new, confirm=False, trial_seconds=1)
    assert (ended.outcome, ended.kind) == ("rolled-back", "unconfirmed"), ended.done
    assert quiet.current() == name_of(old)
    assert quiet.events().count("ended") == 2


def test_a_new_connection_confirms(quiet: Board, new: Path) -> None:
    def elsewhere(child: Child) -> None:
        ended = quiet.order("confirm", name_of(new))
        assert ended.outcome == "committed", ended.done

    ended = quiet.flash(new, confirm=elsewhere)
    assert ended.outcome == "committed", ended.done
    assert quiet.current() == name_of(new)


def test_a_host_that_vanished_confirms_later(quiet: Board, new: Path) -> None:
    quiet.flash(new, confirm=vanish)
    trial = quiet.order("status").done["status"]["trial"]
    assert trial["release"] == name_of(new)
    assert 0 < trial["seconds"] <= 60
    assert quiet.order("confirm", name_of(new)).outcome == "committed"
    assert quiet.order("confirm", name_of(new)).outcome == "committed"
    assert quiet.state()["min_seq"] == 2


@pytest.mark.parametrize("what", ["another release", "no trial"])
def test_only_what_is_in_trial_can_be_confirmed(
    quiet: Board, old: Path, new: Path, what: str
) -> None:
    if what == "another release":
        quiet.flash(new, confirm=vanish)
    before = quiet.state()
    ended = quiet.order("confirm", "9-0123456789ab")
    assert (ended.outcome, ended.kind) == ("refused", "no-trial")
    assert quiet.state() == before


def test_a_confirmation_after_a_reboot_comes_too_late(quiet: Board, old: Path, new: Path) -> None:
    quiet.flash(new, confirm=vanish)
    quiet.patches.append(rebooted)
    ended = quiet.order("confirm", name_of(new))
    assert (ended.outcome, ended.kind) == ("rolled-back", "unconfirmed")
    assert quiet.current() == name_of(old)


def test_a_reboot_in_a_trial_rolls_back_exactly_once(quiet: Board, old: Path, new: Path) -> None:
    quiet.flash(new, confirm=vanish, restart=[sys.executable, "-c", "pass"])
    quiet.patches.append(rebooted)
    assert [quiet.order("recover").outcome for _ in range(3)] == [
        "rolled-back",
        "unchanged",
        "unchanged",
    ]
    assert quiet.current() == name_of(old)
    assert quiet.events().count("ended") == 2
    assert quiet.answers()


@pytest.mark.parametrize(("order", "restarts"), [("recover", 0), ("rollback", 1), ("flash", 1)])
def test_after_a_reboot_the_app_is_restarted_unless_it_starts_after_this(
    quiet: Board, old: Path, new: Path, tmp_path: Path, order: str, restarts: int
) -> None:
    log = tmp_path / "restarts"
    log.touch()
    code = f"open({str(log)!r}, 'a').write('restarted\\n')"
    quiet.flash(new, confirm=vanish, restart=[sys.executable, "-c", code])
    before = len(log.read_text().split())
    quiet.patches.append(rebooted)
    ended = quiet.flash(old) if order == "flash" else quiet.order(order)
    assert ended.outcome == ("unchanged" if order == "flash" else "rolled-back"), ended.done
    assert quiet.current() == name_of(old)
    assert len(log.read_text().split()) - before == restarts


def test_a_trial_survives_a_recovery_before_its_deadline(quiet: Board, new: Path) -> None:
    quiet.flash(new, confirm=vanish)
    assert quiet.order("recover").outcome == "trial"
    assert quiet.order("confirm", name_of(new)).outcome == "committed"


def test_the_app_is_restarted_on_the_new_release_and_again_on_the_old(
    quiet: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    log = tmp_path / "restarts"
    link = quiet.folder / "current"
    code = f"import os; open({str(log)!r}, 'a').write(os.readlink({str(link)!r}) + '\\n')"
    restart = [sys.executable, "-c", code]
    assert quiet.flash(new, restart=restart, confirm=False, trial_seconds=1).kind == "unconfirmed"
    assert [line.split("/")[1] for line in log.read_text().split()] == [name_of(new), name_of(old)]


def test_arguments_never_reach_a_shell(quiet: Board, new: Path, tmp_path: Path) -> None:
    log = tmp_path / "arguments"
    hostile = f"; touch {tmp_path}/owned $(touch {tmp_path}/owned) `touch {tmp_path}/owned`"
    code = f"import sys; open({str(log)!r}, 'w').write(sys.argv[1])"
    ended = quiet.flash(new, probe=[sys.executable, "-c", code, hostile])
    assert ended.outcome == "committed", ended.done
    assert log.read_text() == hostile
    assert not (tmp_path / "owned").exists()


def test_a_damaged_way_back_stops_loudly_and_nothing_loops(
    quiet: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    quiet.flash(new, confirm=vanish)
    flip(quiet.folder / "releases" / name_of(old) / "model/own.bin")
    first = quiet.order("rollback")
    assert (first.outcome, first.kind) == ("stuck", "stuck")
    assert name_of(old) in first.done["error"]["cause"]
    assert quiet.order("status").done["status"]["stuck"]
    restarted = quiet.current()
    for _ in range(3):
        assert quiet.order("recover").outcome == "stuck"
    assert quiet.current() == restarted
    assert len([e for e in quiet.events() if e == "ended"]) == 2
    ended = quiet.flash(release(tmp_path / "b", 3))
    assert ended.outcome == "committed", ended.done
    assert quiet.state()["stuck"] is None
    assert quiet.answers()


def test_a_rollback_goes_to_the_previous_release_which_may_be_older(
    quiet: Board, old: Path, new: Path
) -> None:
    assert quiet.flash(new).outcome == "committed"
    ended = quiet.order("rollback")
    assert (ended.outcome, ended.code) == ("rolled-back", 0)
    assert (quiet.current(), quiet.previous()) == (name_of(old), None)
    assert quiet.answers()
    assert quiet.state()["min_seq"] == 2
    assert quiet.flash(old).outcome == "unchanged"
    assert quiet.flash(new).outcome == "committed"


def test_a_rollback_to_nowhere_is_refused(quiet: Board, old: Path) -> None:
    before = quiet.state()
    ended = quiet.order("rollback")
    assert (ended.outcome, ended.kind) == ("refused", "no-previous")
    assert (quiet.current(), quiet.state()) == (name_of(old), before)


def test_a_rollback_to_a_damaged_release_is_refused(quiet: Board, old: Path, new: Path) -> None:
    assert quiet.flash(new).outcome == "committed"
    flip(quiet.folder / "releases" / name_of(old) / "does.txt")
    before = quiet.state()
    ended = quiet.order("rollback")
    assert (ended.outcome, ended.kind) == ("refused", "files")
    assert (quiet.current(), quiet.state()) == (name_of(new), before)
    assert quiet.answers()


def test_two_releases_are_kept_and_those_are_in_use(
    quiet: Board, old: Path, tmp_path: Path
) -> None:
    for seq in (2, 3, 4):
        assert quiet.flash(release(tmp_path / str(seq), seq)).outcome == "committed"
        kept = sorted(p.name for p in (quiet.folder / "releases").iterdir())
        assert kept == sorted([str(quiet.current()), str(quiet.previous())])
    reports = sorted(p.stem for p in (quiet.folder / "reports").iterdir())
    assert reports == kept


def test_what_failed_its_probe_stays_staged_until_another_release_comes(
    quiet: Board, old: Path, tmp_path: Path
) -> None:
    bad, other = release(tmp_path / "2", 2, does="miss"), release(tmp_path / "3", 3)
    assert quiet.flash(bad).outcome == "failed"
    again = quiet.flash(bad)
    assert (again.outcome, again.sent) == ("failed", 0)
    assert quiet.flash(other).outcome == "committed"
    kept = sorted(p.name for p in (quiet.folder / "releases").iterdir())
    assert kept == sorted([name_of(old), name_of(other)])


def test_the_report_of_what_was_measured_lies_beside_the_release(quiet: Board, new: Path) -> None:
    ended = quiet.flash(new)
    report = json.loads((quiet.folder / "reports" / f"{name_of(new)}.json").read_bytes())
    assert report["golden"]["passed"] is True
    assert set(report) >= {"preflight", "engine", "golden", "latency"}
    assert ended.done["report"]["golden"] == report["golden"]


# The board's own timer


@pytest.mark.parametrize("program", ["/no/such/python", "/bin/true", "/bin/cat"])
def test_without_a_timer_nothing_is_switched(
    board: Board, old: Path, new: Path, program: str
) -> None:
    def no_timer() -> None:
        from edgepack_agent import timer

        timer._START_SECONDS = 1
        timer.sys.executable = program

    before = board.state()
    board.patches += [swift, no_timer]
    ended = board.flash(new)
    assert (ended.outcome, ended.kind, ended.done["state"]) == ("rolled-back", "timer", "ARM")
    assert "SWITCH" not in ended.states
    assert board.current() == name_of(old)
    assert board.answers()
    assert board.state() == before


def test_a_trial_whose_host_and_agent_are_gone_is_rolled_back_by_the_timer(
    board: Board, old: Path, new: Path
) -> None:
    board.flash(new, confirm=vanish, trial_seconds=2)
    assert board.current() == name_of(new)
    wait_for(lambda: board.state()["trial"] is None)
    assert board.current() == name_of(old)
    assert board.answers()
    last = board.order("status").done["status"]["last"]
    assert (last["outcome"], last["release"]) == ("rolled-back", name_of(old))


def test_what_a_release_measured_is_in_the_status_as_long_as_it_runs(
    quiet: Board, old: Path, new: Path
) -> None:
    first = quiet.order("status").done["status"]["report"]
    ended = quiet.flash(new)
    second = quiet.order("status").done["status"]["report"]
    assert {key: second[key] for key in ("golden", "latency")} == {
        key: ended.done["report"][key] for key in ("golden", "latency")
    }
    quiet.order("rollback")
    assert quiet.order("status").done["status"]["report"] == first != second


def test_a_trial_whose_agent_died_before_it_was_proven_is_rolled_back_long_before_the_deadline(
    board: Board, old: Path, new: Path
) -> None:
    child = board.start("flash")
    link = str(board.folder / "current")
    code = f"import os, time; time.sleep(600 * ({name_of(new)!r} in os.readlink({link!r})))"
    child.say(begin(new, restart=[sys.executable, "-c", code], trial_seconds=3600))
    for said in child.hear_all():
        if said["type"] == "need":
            for need in said["files"]:
                send(new, need)
            child.say({"type": "uploaded"})
        if said.get("state") == "TRIAL":
            break
    wait_for(lambda: board.current() == name_of(new))
    kill(child)
    wait_for(lambda: board.state()["trial"] is None)
    assert board.current() == name_of(old)
    assert board.answers()


def test_the_timer_lets_a_confirmed_trial_be(board: Board, new: Path) -> None:
    assert board.flash(new, trial_seconds=1).outcome == "committed"
    time.sleep(2.5)
    assert board.current() == name_of(new)
    assert board.state()["trial"] is None
