"""How fast the release is on this very board, and what the board was doing meanwhile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from typing import Any, Iterator

from edgepack_agent.facts import power_mode, program
from edgepack_agent.probe import loader

_RUNS = 100
_INTERVAL_MS = 200
#: Of tegrastats: some minutes of lines; it is stopped long before.
_LOG_BYTES = 4 << 20


def measure(release: str, engines: str, options: dict[str, Any]) -> dict[str, Any]:
    """What was measured: `{"median_ms", "p95_ms", "min_ms", "max_ms", "runs", "warm_up", "report", "power_mode", "tegrastats"}`.

    One call of the model as an app makes it, through the release's own loader: from numpy arrays to numpy arrays. `tegrastats` is None
    where there is none.

    Raises:
        Refusal: kind `probe`: the loader does not run.
    """
    runs = str(int(options.get("runs") or _RUNS))
    with _tegrastats() as lines:
        times = loader(release, ["latency", "--cache-dir", engines, "--runs", runs], options)
    # The mode may have been changed since the preflight.
    return {**times, "power_mode": power_mode(), "tegrastats": summary(lines)}


@contextmanager
def _tegrastats() -> Iterator[list[str]]:
    """What tegrastats prints while the block runs; the list is full when it has ended, and empty where there is no such program."""
    lines: list[str] = []
    place = program("tegrastats")
    if place is None:
        yield lines
        return
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                [place, "--interval", str(_INTERVAL_MS)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            yield lines
            return
        try:
            yield lines
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            log.seek(0)
            lines += log.read(_LOG_BYTES).decode("utf-8", "replace").splitlines()


def summary(lines: list[str]) -> dict[str, Any] | None:
    """Of lines of tegrastats: mean and highest power by rail (mW), highest temperature by zone (°C), highest use of GPU (%) and RAM (MB).

    Source: Jetson Linux developer guide, "tegrastats Utility": `VDD_IN 4025mW/4025mW` is the present power and its mean since the start,
    `tj@44.3C` a temperature (-256: the zone is off), `GR3D_FREQ 12%`, `RAM 4321/62801MB`. Rails and zones differ from board to board.
    """
    power: dict[str, list[int]] = {}
    heat: dict[str, float] = {}
    gpu: list[int] = []
    memory: list[int] = []
    for line in lines:
        for rail, milliwatts in re.findall(r"(\w+) (\d+)mW/\d+mW", line):
            if rail != "NC":  # not connected
                power.setdefault(rail, []).append(int(milliwatts))
        for zone, degrees in re.findall(r"(\w+)@(-?\d+(?:\.\d+)?)C", line):
            if float(degrees) > -256:
                heat[zone] = max(heat.get(zone, -256.0), float(degrees))
        gpu += map(int, re.findall(r"GR3D_FREQ (\d+)%", line))
        memory += map(int, re.findall(r"RAM (\d+)/\d+MB", line))
    if not (power or heat or gpu or memory):
        return None
    return {
        "samples": len(lines),
        "power_mw": {r: {"mean": round(sum(v) / len(v)), "max": max(v)} for r, v in power.items()},
        "celsius_max": heat,
        "gpu_percent_max": max(gpu, default=None),
        "ram_mb_max": max(memory, default=None),
    }
