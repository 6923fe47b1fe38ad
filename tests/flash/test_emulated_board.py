"""Flashing a real arm64 userland over its own sshd, with the agent that bundles bring: as root and as nobody special, through cuts and kills."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from edgepack.flash.payload import own_agent
from tests.agent.bundles import files
from tests.flash.boards import Cable, cable
from tests.flash.bundles import APP, make, some_bytes, write_trust
from tests.flash.emulated import Emulated, current, emulated

ROOT = "/home/edge/edgepack"
SIZE = 8_000_000


@dataclass(kw_only=True)
class Desk:
    """A user's machine with a cable to the board."""

    board: Emulated
    line: Cable
    home: Path
    first: Path
    second: Path
    trust: Path

    def start(self, *arguments: object) -> subprocess.Popen[str]:
        known = self.home / ".ssh/known_hosts"
        known.write_text(self.board.known(self.line.port))
        return subprocess.Popen(
            [sys.executable, "-m", "edgepack", *map(str, arguments), "--json"],
            env={**os.environ, "HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def options(self, user: str) -> list[object]:
        key: list[object] = ["-i", self.board.remote.keys / "user"]
        return [
            f"{user}@127.0.0.1:{self.line.port}",
            *key,
            *(["--root", ROOT] if user == "edge" else []),
        ]

    def flash(self, bundle: Path, user: str = "edge", *more: object) -> dict[str, Any]:
        return ended(self.start("flash", bundle, *self.options(user), *more))

    def order(self, what: str, user: str) -> dict[str, Any]:
        out, err = self.start("board", what, *self.options(user)).communicate(timeout=120)
        assert out, err
        answer: dict[str, Any] = json.loads(out)[APP]
        return answer


def ended(running: subprocess.Popen[str]) -> dict[str, Any]:
    """What became of the one board."""
    out, err = running.communicate(timeout=240)
    assert out, err
    print(err)
    (board,) = json.loads(out)["boards"]
    return {**board, "code": running.returncode, "said": err}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    (folder / "home/.ssh").mkdir(parents=True)
    shared = {"model/m.onnx": some_bytes(SIZE)}
    with emulated() as board, cable(board.remote.port) as line:
        yield Desk(
            board=board,
            line=line,
            home=folder / "home",
            first=make(folder / "first", {**files("1"), **shared}, agent=own_agent()),
            second=make(folder / "second", {**files("2"), **shared}, agent=own_agent(), seq=2),
            trust=write_trust(folder / "trust.json"),
        )


def test_a_user_who_is_not_root_flashes_through_a_connection_that_is_killed(desk: Desk) -> None:
    desk.line.sent = 0
    desk.line.at(SIZE * 9 // 10, lambda: desk.board.kill(desk.board.connections()))
    result = desk.flash(desk.first, "edge", "--trust", desk.trust)
    assert (result["outcome"], result["links"], result["code"]) == ("committed", 2, 0), result
    assert current(desk.board.folder(f"{ROOT}/{APP}")) == result["release"]
    # Under way were 2 MB at most; the agent and the manifests crossed twice.
    assert SIZE < desk.line.sent < SIZE + 3_500_000


def test_the_same_bundle_again_sends_no_payload(desk: Desk) -> None:
    desk.line.sent = 0
    result = desk.flash(desk.first)
    assert (result["outcome"], result["sent_bytes"]) == ("unchanged", 0), result
    assert desk.line.sent < 30_000


def test_a_power_cut_in_trial_ends_in_the_old_release_and_the_host_is_told(desk: Desk) -> None:
    app = desk.board.folder(f"{ROOT}/{APP}")
    old = current(app)
    running = desk.start("flash", desk.second, *desk.options("edge"))
    assert running.stderr is not None
    assert any("SWITCH" in line for line in running.stderr)
    desk.board.cut_power()
    assert current(app) in (old, f"2-{digest(desk.second)}")
    desk.board.boot()
    desk.line.target = desk.board.remote.port
    # As the unit at boot does, before the app starts.
    recover = [f"{ROOT}/agent/current.pyz", "--root", ROOT, "--app", APP, "recover"]
    done = desk.board.remote.run(shlex.join(["python3", "-I", *recover]))
    assert json.loads(done.stdout.splitlines()[-1])["outcome"] == "rolled-back", done
    told = ended(running)
    # A second release sends what changed.
    assert (told["outcome"], told["sent_bytes"]) == ("rolled-back", 20_000), told
    assert current(app) == old == desk.order("status", "edge")["current"]


def test_root_flashes_too_and_who_comes_second_is_told_who_is_there(desk: Desk) -> None:
    trust = ["--trust", desk.trust]
    first = desk.start("flash", desk.first, *desk.options("root"), *trust)
    assert first.stderr is not None
    assert any("PREFLIGHT" in line for line in first.stderr)
    other = desk.flash(desk.first, "root", *trust)
    result = ended(first)
    assert result["outcome"] == "committed", result
    assert current(desk.board.folder(f"/var/lib/edgepack/{APP}")) == result["release"]
    assert (other["outcome"], other["error"]["kind"]) == ("refused", "locked"), other
    assert "is being worked on by a flash from" in other["error"]["cause"]


def test_a_folder_that_takes_nothing_is_said_with_its_cause(desk: Desk) -> None:
    first = desk.flash(
        desk.first, "root", "--root", "/opt/edgepack", "--trust", desk.trust, "--dry-run"
    )
    assert (first["outcome"], first["code"]) == ("ready", 0), first
    no_way = desk.flash(desk.first, "edge", "--root", "/opt/edgepack/mine")
    assert (no_way["outcome"], no_way["error"]["kind"]) == ("refused", "permission"), no_way
    assert "install -d -o edge /opt/edgepack/mine" in no_way["error"]["fix"]
    assert desk.board.remote.run("cat /dev/zero >/run/zeros; echo", "root").returncode == 0
    full = desk.flash(desk.first, "root", "--root", "/run/edgepack")
    assert (full["outcome"], full["error"]["kind"]) == ("refused", "disk"), full


def digest(bundle: Path) -> str:
    return sha256((bundle / "manifest.json").read_bytes()).hexdigest()[:12]
