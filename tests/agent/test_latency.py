"""Latency is measured by the release's own loader, with what the board was doing meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgepack_agent import latency
from edgepack_trust import Refusal
from tests.agent.test_probe import OPTIONS, release
from tests.device.board.fakes.onpath import HERE, install

ANSWER = """
assert sys.argv[1] == "latency", sys.argv
time.sleep(0.5)
runs = int(sys.argv[sys.argv.index("--runs") + 1])
print(json.dumps({"runs": runs, "median_ms": 1.5, "p95_ms": 2.5}))
"""


def test_it_is_what_the_loader_says_with_the_boards_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(
        "PATH", f"{install(tmp_path / 'bin', 'tegrastats', 'nvpmodel')}:{os.environ['PATH']}"
    )
    found = latency.measure(release(tmp_path, ANSWER), "/engines", {**OPTIONS, "runs": 7})
    assert (found["runs"], found["median_ms"], found["p95_ms"]) == (7, 1.5, 2.5)
    assert found["power_mode"] == "MAXN"
    assert found["tegrastats"]["samples"] >= 1
    assert found["tegrastats"]["power_mw"]["VIN_SYS_5V0"] == {"mean": 4025, "max": 4025}
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert not [line for line in running.splitlines() if f"{HERE}/fake_tegrastats.py" in line]


def test_where_there_is_no_tegrastats_nothing_is_made_up(tmp_path: Path) -> None:
    found = latency.measure(release(tmp_path, ANSWER), "/engines", OPTIONS)
    assert (found["runs"], found["tegrastats"], found["power_mode"]) == (100, None, None)


def test_a_loader_that_fails_is_refused_and_tegrastats_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'bin', 'tegrastats')}:{os.environ['PATH']}")
    with pytest.raises(Refusal, match="without an answer"):
        latency.measure(release(tmp_path, "sys.exit(1)"), "/engines", OPTIONS)


def test_a_recorded_line_is_read_to_the_last_rail() -> None:
    """Zones that are off say -256 °C, and rails that are not connected NC."""
    line = (HERE / "recordings/tegrastats.txt").read_text().splitlines()[-1]
    hotter = line.replace("tj@44.343C", "tj@61.5C").replace("VDD_CPU_CV 390mW", "VDD_CPU_CV 610mW")
    assert latency.summary([line, hotter.replace("GR3D_FREQ 0%", "GR3D_FREQ 99%")]) == {
        "samples": 2,
        "power_mw": {
            "VDD_GPU_SOC": {"mean": 2340, "max": 2340},
            "VDD_CPU_CV": {"mean": 500, "max": 610},
            "VIN_SYS_5V0": {"mean": 4025, "max": 4025},
            "VDDQ_VDD2_1V8AO": {"mean": 301, "max": 301},
        },
        "celsius_max": {
            **{"CPU": 44.562, "Tboard": 32.0, "SOC2": 40.093, "Tdiode": 33.0, "SOC0": 41.093},
            **{"tj": 61.5, "SOC1": 41.25},
        },
        "gpu_percent_max": 99,
        "ram_mb_max": 4321,
    }


@pytest.mark.parametrize("lines", [[], ["tegrastats: command needs root"], [""]])
def test_what_is_no_such_line_is_no_summary(lines: list[str]) -> None:
    assert latency.summary(lines) is None
    assert sys.version_info >= (3, 8)
