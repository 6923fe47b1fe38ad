"""A program that is run for the agent: its time, its output and its children have an end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack_agent.run import run
from tests.agent.board import AGENT


def test_it_says_how_a_program_ended_and_what_it_printed() -> None:
    ran = run(["sh", "-c", "echo out; echo err >&2; exit 3"], seconds=10)
    assert ran == (3, "out\n", "err\n", False)
    assert run(["sh", "-c", "kill -SEGV $$"], seconds=10).code == -signal.SIGSEGV


def test_arguments_are_never_a_shells() -> None:
    assert run(["echo", "; rm -rf $HOME `x`"], seconds=10).stdout == "; rm -rf $HOME `x`\n"


def test_a_program_that_is_not_there_is_127_with_a_reason() -> None:
    assert run(["./no-such-program"], seconds=10)[:3] == (
        127,
        "",
        "./no-such-program: No such file or directory",
    )


def test_it_is_killed_when_its_time_is_over_with_what_it_printed_kept() -> None:
    begin = time.monotonic()
    ran = run(["sh", "-c", "echo begun; sleep 60"], seconds=0.4)
    assert (ran.timed_out, ran.code, ran.stdout) == (True, -signal.SIGKILL, "begun\n")
    assert time.monotonic() - begin < 10


@pytest.mark.parametrize(
    "left", ["sleep 300", "while :; do echo x; done", "trap '' TERM HUP; sleep 300"]
)
def test_what_it_leaves_running_is_killed_and_not_waited_for(left: str) -> None:
    begin = time.monotonic()
    ran = run(["sh", "-c", f"({left}) & echo $!"], seconds=60)
    assert time.monotonic() - begin < 10
    assert (ran.code, ran.timed_out) == (0, False)
    pid = int(ran.stdout.splitlines()[0])
    assert _ends(pid)


def _ends(pid: int) -> bool:
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_a_flood_is_kept_at_both_ends() -> None:
    script = "print('first'); print('x' * 3_000_000); print('last')"
    ran = run([sys.executable, "-c", script], seconds=30, keep=8192)
    assert ran.stdout.startswith("first\nx")
    assert ran.stdout.endswith("x\nlast\n")
    assert "bytes left out]" in ran.stdout
    assert len(ran.stdout) < 8300


def test_it_goes_on_when_the_program_closes_its_outputs() -> None:
    ran = run(["sh", "-c", "exec >&- 2>&-; sleep 0.5; exit 4"], seconds=10)
    assert (ran.code, ran.timed_out) == (4, False)


def test_waiting_is_told_about_once_a_second() -> None:
    told: list[float] = []
    run(["sleep", "2.5"], seconds=10, waiting=told.append)
    assert [round(t) for t in told] == [1, 2]


def test_variables_come_beside_the_agents_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEPT", "k")
    ran = run(
        ["sh", "-c", "echo $KEPT $GIVEN; pwd"], seconds=10, cwd="/", environment={"GIVEN": "g"}
    )
    assert ran.stdout == "k g\n/\n"


def test_it_dies_with_the_agent(tmp_path: Path) -> None:
    """A trtexec without its agent would hold the GPU for half an hour."""
    told = tmp_path / "pid"
    code = f"from edgepack_agent.run import run; run(['sh', '-c', 'echo $$ >{told}; exec sleep 300'], seconds=300)"
    agent = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(AGENT)}
    )
    while not told.exists() or not told.read_text().strip():
        assert agent.poll() is None
        time.sleep(0.02)
    agent.kill()
    agent.wait()
    assert _ends(int(told.read_text()))


def test_the_kernel_ends_it_before_the_agent_when_memory_runs_out() -> None:
    assert run(["cat", "/proc/self/oom_score_adj"], seconds=10).stdout == "900\n"
    assert Path("/proc/self/oom_score_adj").read_text() != "900\n"
