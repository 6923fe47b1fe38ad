"""The agent in a bare Python, also in 3.8, which JetPack 5 has: no site-packages, no environment, no working folder."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.agent.board import AGENT, Board, name_of
from tests.agent.bundles import trust
from tests.agent.jetson import ORIN, manifest
from tests.device.board.fakes.onpath import install
from tests.trust.test_attacks import bare_pythons


def test_every_file_is_of_python_3_8() -> None:
    with zipfile.ZipFile(AGENT) as archive:
        for name in archive.namelist():
            ast.parse(archive.read(name), name, feature_version=(3, 8))


_STATES = """
import json, sys
sys.path.insert(0, sys.argv[1])
from edgepack_agent import engine, facts, latency, preflight, probe
from edgepack_trust import Refusal
board, manifest = facts.Facts(**json.loads(sys.argv[2])), json.loads(sys.argv[3])
release, told = sys.argv[4], []
preflight.check(manifest, board, release + "/app", 10)
options = {"engine": "trtexec", "probe": ["true"], "probes": 2, "python": sys.executable}
built = engine.build(release, release + "/engines", manifest, board, options, told.append)
again = engine.build(release, release + "/engines", manifest, board, options, told.append)
try:
    preflight.check(manifest, board._replace(l4t="35.4.1"), release + "/app", 10)
except Refusal as refusal:
    refused = refusal.kind
print(json.dumps([
    built["found"], again["found"], refused, len(probe.probes(options)), facts.read().python,
    latency.measure(release, release, options)["median_ms"],
]))
"""


@pytest.mark.parametrize("python", bare_pythons())
def test_it_goes_through_its_states(tmp_path: Path, python: str) -> None:
    wanted = manifest(board="tegra234", l4t=">=36.4,<37", tensorrt=">=10.3,<11")
    wanted.update(model={"path": "m.onnx", "precision": "int8"}, golden=[])
    (tmp_path / "m.onnx").write_bytes(b"model")
    (tmp_path / "loader").mkdir()
    loader = "import json, sys; print(json.dumps({'median_ms': 1.5}))"
    (tmp_path / "loader/edgepack_loader.py").write_text(loader)
    programs = install(tmp_path / "bin", "trtexec", "tegrastats", "nvpmodel")
    given = [str(AGENT), json.dumps(ORIN.as_json()), json.dumps(wanted), str(tmp_path)]
    done = subprocess.run(
        [python, "-I", "-S", "-c", _STATES, *given],
        capture_output=True,
        text=True,
        env={"PATH": f"{programs}:{os.environ['PATH']}"},
    )
    assert done.returncode == 0, done.stderr
    version = subprocess.run([python, "-V"], capture_output=True, text=True).stdout.split()[1]
    assert json.loads(done.stdout) == [False, True, "l4t", 2, version, 1.5]


@pytest.mark.parametrize("python", bare_pythons())
def test_its_orders_run(bare: Board, old: Path, python: str) -> None:
    assert bare.flash(old, trust_file=trust()).outcome == "committed"
    order = [python, "-I", "-S", str(AGENT), "--root", str(bare.root), "--app", bare.app]
    for name in ("status", "recover", "history", "doctor"):
        done = subprocess.run([*order, name], capture_output=True, text=True)
        said = json.loads(done.stdout.splitlines()[-1])
        assert (done.returncode, said["type"]) == (0, "done"), done.stderr
        if name == "status":
            assert said["status"]["current"] == name_of(old)
