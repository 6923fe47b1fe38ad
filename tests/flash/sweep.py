"""Kills whoever takes part in a flash at every state: `python -m tests.flash.sweep [--emulated] [--seed N] [--points N]`.

A point is a victim (the agent, the connection's sshd, the whole board, the host), a state, and a moment after it began. After each the board
must run the old or the new release, every byte of it as signed; and the same flash, given again, must end on the new one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import asyncssh

from edgepack.flash.payload import own_agent
from tests.agent.bundles import STATES, files
from tests.flash.boards import LocalBoard, cable, local_board
from tests.flash.bundles import APP, make, some_bytes, write_trust
from tests.flash.emulated import Emulated, current, emulated

VICTIMS = ("agent", "link", "board", "host")
_SETTLE_S = 120


class Target(Protocol):
    """A board whose parts can be killed."""

    app: Path
    trial_seconds: int

    def kill_agent(self) -> None: ...
    def kill_link(self) -> None: ...
    def cut_and_boot(self) -> None: ...
    def known(self) -> str: ...
    def options(self) -> list[str]: ...


class Local:
    """The real agent on this machine, behind an SSH server in this process: quick, and no power of its own to cut."""

    trial_seconds = 8

    def __init__(self, board: LocalBoard, folder: Path, key: asyncssh.SSHKey) -> None:
        self._board, self.app = board, board.root / APP
        key.write_private_key(folder / "user")
        self._key = folder / "user"

    def kill_agent(self) -> None:
        """SIGKILL to the agent, its timer lives."""
        _kill(p for p in _with(self._board.root) if "timer" not in _words(p))

    def kill_link(self) -> None:
        self._board.drop()

    def cut_and_boot(self) -> None:
        """Everything of the board is killed; then what its unit would do at boot."""
        _kill(_with(self._board.root))
        self._board.drop()
        agent = self._board.root / "agent/current.pyz"
        if agent.exists():
            order = ["--root", str(self._board.root), "--app", APP, "recover"]
            subprocess.run(["python3", "-I", str(agent), *order], capture_output=True, timeout=60)

    def known(self) -> str:
        return self._board.known()

    def options(self) -> list[str]:
        root = ["--root", str(self._board.root), "--python", sys.executable]
        return [self._board.address, "-i", str(self._key), *root]


class Arm64:
    """The emulated board, behind a cable that finds it after each boot."""

    trial_seconds = 20

    def __init__(self, board: Emulated, stack: ExitStack) -> None:
        self._board, self._line = board, stack.enter_context(cable(board.remote.port))
        self.app = board.folder(f"/var/lib/edgepack/{APP}")

    def kill_agent(self) -> None:
        self._board.kill(self._board.agents())

    def kill_link(self) -> None:
        self._board.kill(self._board.connections())

    def cut_and_boot(self) -> None:
        """A power cut, a boot, and what the unit does then."""
        self._board.cut_power()
        current(self.app)
        self._board.boot()
        order = ["/var/lib/edgepack/agent/current.pyz", "--app", APP, "recover"]
        self._board.remote.run(shlex.join(["python3", "-I", *order]), "root")
        self._line.target = self._board.remote.port

    def known(self) -> str:
        return self._board.known(self._line.port)

    def options(self) -> list[str]:
        key = str(self._board.remote.keys / "user")
        return [f"root@127.0.0.1:{self._line.port}", "-i", key]


@dataclass(frozen=True, kw_only=True)
class Point:
    """Whom to kill, and when."""

    victim: str
    state: str
    delay_s: float

    def __str__(self) -> str:
        return f"{self.victim} {self.delay_s:.2f} s into {self.state}"


@dataclass(kw_only=True)
class Sweep:
    """Points, one after another, on one board that goes from release to release."""

    target: Target
    folder: Path
    seq: int = 0

    def begin(self) -> None:
        """The first release."""
        (self.folder / "home/.ssh").mkdir(parents=True)
        result = self._end(self._start(self._next()))
        assert result["outcome"] == "committed", result

    def run(self, point: Point) -> str:
        """The outcome that the host was told; fails if the board is left between two releases."""
        old = current(self.target.app)
        bundle = self._next()
        more = ["--unattended"] if point.state == "COMMIT" else []
        running = self._start(bundle, *more)
        self._strike(running, point)
        told = self._end(running) if point.victim != "host" else {"outcome": "killed"}
        name = f"{self.seq}-{_digest(bundle)}"
        now = current(self.target.app)
        assert now in (old, name), f"{point}: {now} is neither {old} nor {name}"
        if told["outcome"] in ("committed", "unchanged"):
            assert now == name, f"{point}: told {told}, runs {now}"
        self._settle(bundle, point)
        assert current(self.target.app) == name, f"{point}: {current(self.target.app)}"
        return str(told["outcome"])

    def _strike(self, running: subprocess.Popen[str], point: Point) -> None:
        assert running.stderr is not None
        reached = any(f": {point.state}" in line for line in running.stderr)
        assert reached, f"{point}: never came"
        time.sleep(point.delay_s)
        if point.victim == "agent":
            self.target.kill_agent()
        elif point.victim == "link":
            self.target.kill_link()
        elif point.victim == "board":
            self.target.cut_and_boot()
        else:
            running.send_signal(signal.SIGKILL)
            running.communicate(timeout=10)

    def _settle(self, bundle: Path, point: Point) -> None:
        """Flash it again, until what the first flash left is over."""
        end = time.monotonic() + _SETTLE_S
        while True:
            result = self._end(self._start(bundle))
            if result["outcome"] in ("committed", "unchanged"):
                return
            kind = (result["error"] or {}).get("kind")
            assert kind in ("locked", "trial"), f"{point}: {result}"
            assert time.monotonic() < end, f"{point}: {result}"
            time.sleep(1)

    def _next(self) -> Path:
        self.seq += 1
        content = {**files(str(self.seq)), "model/m.onnx": some_bytes(400_000)}
        place = self.folder / f"bundle-{self.seq}"
        return make(place, content, seq=self.seq, agent=own_agent())

    def _start(self, bundle: Path, *more: str) -> subprocess.Popen[str]:
        (self.folder / "home/.ssh/known_hosts").write_text(self.target.known())
        trust = write_trust(self.folder / "trust.json") if self.seq == 1 else None
        given = ["--trust", str(trust)] if trust else []
        argv = ["flash", str(bundle), *self.target.options(), *given, *more, "--json"]
        argv += ["--trial-seconds", str(self.target.trial_seconds), "--patience", "60"]
        return subprocess.Popen(
            [sys.executable, "-m", "edgepack", *argv],
            env={**os.environ, "HOME": str(self.folder / "home")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def _end(self, running: subprocess.Popen[str]) -> dict[str, Any]:
        out, err = running.communicate(timeout=300)
        assert out, err
        (board,) = json.loads(out)["boards"]
        result: dict[str, Any] = board
        return result


def points(seed: int) -> list[Point]:
    """Every victim at every state, in an order and at moments that the seed decides."""
    chance = random.Random(seed)
    every = [
        Point(victim=v, state=s, delay_s=chance.choice((0.0, 0.05, 0.2, 0.5)))
        for v, s in itertools.product(VICTIMS, STATES)
    ]
    chance.shuffle(every)
    return every


@contextmanager
def sweep(*, arm64: bool) -> Iterator[Sweep]:
    """A board with its first release."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sweep.")))
        if arm64:
            target: Target = Arm64(stack.enter_context(emulated()), stack)
        else:
            key = asyncssh.generate_private_key("ssh-ed25519")
            (folder / "board").mkdir()
            board = stack.enter_context(local_board(folder / "board", key))
            target = Local(board, folder, key)
        it = Sweep(target=target, folder=folder)
        it.begin()
        yield it


def main() -> None:
    """Run the points and print each with its outcome."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--emulated", action="store_true", help="on the emulated arm64 board")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--points", type=int, default=len(VICTIMS) * len(STATES))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    with sweep(arm64=given.emulated) as it:
        for number, point in enumerate(points(given.seed)[: given.points], 1):
            began = time.monotonic()
            outcome = it.run(point)
            print(f"{number:3} {point}: {outcome} ({time.monotonic() - began:.1f} s)", flush=True)
    print("old or new, whole, and flashed again: every time")


def _digest(bundle: Path) -> str:
    from hashlib import sha256

    return sha256((bundle / "manifest.json").read_bytes()).hexdigest()[:12]


def _words(process: int) -> list[str]:
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return []


def _with(root: Path) -> list[int]:
    """The processes of a board on this machine: those that were started with its root."""
    found = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
    return [
        p
        for p in found
        if p != os.getpid()
        and str(root) in _words(p)
        and any(w.endswith(".pyz") for w in _words(p))
    ]


def _kill(processes: Any) -> None:
    for process in processes:
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            continue


if __name__ == "__main__":
    main()
