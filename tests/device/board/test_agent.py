"""The agent on an arm64 board with a bare Python: it starts, knows where it is, and proves a release through that release's own loader."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgepack
from tests.bundle_samples import conv_model
from tests.device.board.board import Board

HOME = "/home/edge"
CPU = "CPUExecutionProvider"
AGENT = "bundle/edgepack-agent.pyz"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(conv_model(), folder / "conv.onnx")
    return edgepack.build(
        folder / "conv.onnx",
        targets=["jetson-orin"],
        precision="int8",
        output_dir=folder,
        calibration="random",
    )[0].bundle


@pytest.fixture
def board(bundle: Path) -> Iterator[Board]:
    with Board.fresh() as board:
        board.put(bundle, f"{HOME}/bundle")
        yield board


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


#: As the agent goes through PREFLIGHT, BUILD and PROBE.
_STATES = """
import json, sys
sys.path.insert(0, "bundle/edgepack-agent.pyz")
from edgepack_agent import engine, facts, latency, preflight, probe
from edgepack_trust import Refusal
board, options, told = facts.read(), {"python": sys.executable, "runs": 5}, []
manifest = json.load(open("bundle/manifest.json"))
try:
    preflight.check(manifest, board, "root/conv", 1000, sys.executable)
except Refusal as refusal:
    refused = [refusal.kind, refusal.cause]
manifest["target"]["requires"] = {"arch": "aarch64"}
print(json.dumps({
    "facts": board.as_json(),
    "refused": refused,
    "preflight": preflight.check(manifest, board, "root/conv", 1000, sys.executable),
    "engine": engine.build("bundle", "/home/edge/engines", manifest, board, options, told.append),
    "golden": probe.golden("bundle", "/home/edge/engines", options),
    "latency": latency.measure("bundle", "/home/edge/engines", options),
    "modules": sorted(m for m in sys.modules if m.split(".")[0] in ("numpy", "onnxruntime", "site")),
}))
"""


def test_it_proves_a_release_through_the_releases_own_loader(board: Board) -> None:
    found = answer(board.run(["python3", "-I", "-S", "-B", "-c", _STATES]))
    assert (found["facts"]["arch"], found["facts"]["board"]) == ("aarch64", None)
    assert found["facts"]["memory_available"] > 0
    assert found["refused"][0] == "board"
    assert "tegra234" in found["refused"][1]
    assert {each["what"] for each in found["preflight"]} >= {"arch", "memory", "disk", "python"}
    assert found["engine"]["built"] == "none"
    assert "is built without it" in found["engine"]["because"]
    assert found["golden"]["passed"]
    assert found["golden"]["report"]["provider"] == CPU
    assert found["latency"]["runs"] == 5
    assert 0 < found["latency"]["median_ms"] <= found["latency"]["p95_ms"]
    assert found["modules"] == [], "the agent itself needs nothing but Python"


def test_the_doctor_knows_the_board_and_what_it_lacks(board: Board) -> None:
    order = ["python3", "-I", "-S", AGENT, "--root", f"{HOME}/root", "--app", "conv", "doctor"]
    checks = {c["what"]: c for c in answer(board.run(order))["checks"]}
    assert checks["arch"]["found"] == "aarch64"
    assert checks["openssl"]["ok"]
    assert CPU in checks["onnxruntime"]["found"]
    assert checks["current"]["found"] == "no release is installed"
    assert not checks["recovery at boot"]["ok"]
    assert not board.get(f"{HOME}/root").exists()
