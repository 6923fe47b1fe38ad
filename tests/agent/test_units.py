"""A unit that recovers before its app starts, while a flash restarts it, and at boot."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from string import Template

import pytest

from tests.agent.board import AGENT, Board, name_of, rebooted, talk
from tests.conftest import ROOT, need

UNITS = ["app.service", "recover.service"]


def unit(name: str, app: str = "digits") -> str:
    text = (ROOT / "runtime/python" / f"{name}.in").read_text()
    return Template(text).substitute(app=app)


def recovery(name: str, board: Board) -> list[str]:
    """The command by which a unit recovers, with this board's places in it."""
    (line,) = re.findall(r"^ExecStart(?:Pre)?=(.* recover)$", unit(name), re.MULTILINE)
    program, *rest = shlex.split(line)
    assert program == "/usr/bin/python3"
    agent = rest.index("/var/lib/edgepack/agent/current.pyz")
    rest[agent : agent + 1] = [str(AGENT), "--root", str(board.root)]
    return [sys.executable, *rest]


@pytest.mark.parametrize("name", UNITS)
def test_a_flash_may_restart_the_unit_that_recovers(
    board: Board, new: Path, tmp_path: Path, name: str
) -> None:
    """It must not wait for the lock that the flash holds."""
    told = tmp_path / "told"
    line = f"{shlex.join(recovery(name, board))} >{told} && echo started"
    ended = board.flash(new, restart=["sh", "-c", line])
    assert ended.outcome == "committed", ended.done
    said = json.loads(told.read_text())
    assert (said["outcome"], said["release"]) == ("locked", name_of(new))


@pytest.mark.parametrize("name", UNITS)
def test_while_a_trial_waits_the_app_may_start_again(quiet: Board, new: Path, name: str) -> None:
    said = []

    def start_again(child: object) -> None:
        done = subprocess.run(recovery(name, quiet), capture_output=True)
        said.append((done.returncode, json.loads(done.stdout)["outcome"]))
        child.say({"type": "confirm"})  # type: ignore[attr-defined]

    ended = quiet.flash(new, confirm=start_again)
    assert said == [(0, "trial")]
    assert ended.outcome == "committed"


def test_after_a_power_cut_in_a_trial_it_goes_back_before_the_app_starts(
    quiet: Board, old: Path, new: Path
) -> None:
    child = quiet.start("flash")

    def cut(child: object) -> None:
        os.kill(child.pid, 9)  # type: ignore[attr-defined]

    talk(child, new, confirm=cut)
    assert quiet.current() == name_of(new)
    quiet.patches.append(rebooted)
    ended = quiet.order("recover")
    assert (ended.outcome, ended.code) == ("rolled-back", 0)
    assert quiet.current() == name_of(old)


@pytest.mark.parametrize("name", UNITS)
def test_the_unit_is_one_that_systemd_takes(tmp_path: Path, name: str) -> None:
    tool = need(Path(shutil.which("systemd-analyze") or "systemd-analyze"), "board.sh")
    text = (
        unit(name)
        .replace("/opt/digits/main.py", "/dev/null")
        .replace("/usr/bin/python3", "/bin/true")
    )
    place = tmp_path / name
    place.write_text(text)
    done = subprocess.run([tool, "verify", place], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "$" not in text


def test_both_are_in_a_bundle_under_their_apps_name() -> None:
    from edgepack.bundle.loaders import load_spec

    places = load_spec("python").files
    assert {places[f"{name}.in"] for name in UNITS} == {f"systemd/{name}" for name in UNITS}
    assert all("--app emotion recover" in unit(name, "emotion") for name in UNITS)
