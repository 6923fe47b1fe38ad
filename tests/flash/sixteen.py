"""Sixteen emulated arm64 boards flashed by one command: `python -m tests.flash.sixteen [--boards 16] [--concurrency 4]`.

Once with a canary that fails, which must stop the rest, and once more, resumed, with all succeeding.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgepack.flash.payload import own_agent
from tests.agent.bundles import files
from tests.flash.bundles import APP, make, some_bytes, write_trust
from tests.flash.emulated import Emulated, current, emulated


def main() -> None:
    """Flash them and print what became of them, how long it took and what it took of memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=16)
    parser.add_argument("--concurrency", type=int, default=8)
    given = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sixteen.")))
        free = _available()
        boards = [stack.enter_context(emulated()) for _ in range(given.boards)]
        print(
            f"{len(boards)} boards are up: {(free - _available()) // 10**6} MB of memory",
            flush=True,
        )
        arguments = _prepare(folder, boards)
        for board in boards[1:]:
            _make_healthy(board)
        code, report = _flash(folder, [*arguments, "--concurrency", str(given.concurrency)])
        outcomes = [b["outcome"] for b in report["boards"]]
        print(f"exit code {code}, {report['stopped']}: {outcomes}", flush=True)
        assert code == 14, code
        assert outcomes[0] not in ("committed", "unchanged"), report["boards"][0]
        assert outcomes[1:] == ["not-started"] * (len(boards) - 1)
        assert not any((b.folder(f"/var/lib/edgepack/{APP}")).exists() for b in boards[1:])
        _make_healthy(boards[0])
        began = time.monotonic()
        more = ["--concurrency", str(given.concurrency), "--resume", str(folder / "report.json")]
        code, report = _flash(folder, [*arguments, *more])
        outcomes = [b["outcome"] for b in report["boards"]]
        print(f"exit code {code}: {outcomes} in {time.monotonic() - began:.0f} s", flush=True)
        assert (code, outcomes) == (0, ["committed"] * len(boards)), report
        release = report["bundle"]["release"]
        assert [current(b.folder(f"/var/lib/edgepack/{APP}")) for b in boards] == [release] * len(
            boards
        )
        print(f"every board runs {release}, every byte as signed", flush=True)


def _make_healthy(board: Emulated) -> None:
    """What the user's own probe looks for."""
    assert board.remote.run("touch /etc/healthy", "root").returncode == 0


def _prepare(folder: Path, boards: list[Emulated]) -> list[str]:
    (folder / "home/.ssh").mkdir(parents=True)
    known = "".join(board.known() for board in boards)
    (folder / "home/.ssh/known_hosts").write_text(known)
    lines = [
        f"  board-{i:02}: {{address: 127.0.0.1, port: {b.remote.port}, identity: {b.remote.keys / 'user'}}}"
        for i, b in enumerate(boards)
    ]
    (folder / "fleet.yaml").write_text("\n".join(["defaults: {user: root}", "hosts:", *lines, ""]))
    content = {**files("1"), "model/m.onnx": some_bytes(2_000_000)}
    bundle = make(folder / "bundle", content, agent=own_agent())
    trust = write_trust(folder / "trust.json")
    arguments = [str(bundle), "--inventory", str(folder / "fleet.yaml"), "--trust", str(trust)]
    arguments += ["--probe", "test -e /etc/healthy", "--trial-seconds", "300"]
    return [*arguments, "--report", str(folder / "report.json")]


def _flash(folder: Path, arguments: list[str]) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, "-m", "edgepack", "flash", *arguments, "--json"],
        env={**os.environ, "HOME": str(folder / "home")},
        stdout=subprocess.PIPE,
        text=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return done.returncode, report


def _available() -> int:
    text = Path("/proc/meminfo").read_text()
    return int(text.split("MemAvailable:")[1].split()[0]) * 1024


if __name__ == "__main__":
    main()
