"""A Jetson's bundles on an arm64 Linux board without a GPU: both loaders, and install.sh, as a user who is not root."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgepack
from tests.bundle_samples import conv_model
from tests.conftest import ROOT, need
from tests.device.board.board import Board
from tests.device.cpp.programs import LOADER, compiled

CPU = "CPUExecutionProvider"
HOME = "/home/edge"
BUNDLE = "conv-jetson-orin"
INSTALLED = f"{HOME}/.local/share/edgepack/{BUNDLE}"
PYTHON_LOADER = f"{BUNDLE}/loader/edgepack_loader.py"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundle that edgepack builds for a Jetson, by precision."""
    folder = tmp_path_factory.mktemp("bundles")
    onnx.save(conv_model(), folder / "conv.onnx")
    return {
        precision: edgepack.build(
            folder / "conv.onnx",
            targets=["jetson-orin"],
            precision=precision,
            output_dir=folder / precision,
            calibration="random",
        )[0].bundle
        for precision in ("fp32", "int8")
    }


@pytest.fixture(scope="module")
def runner() -> Path:
    """The program edgepack-run for arm64."""
    return compiled(LOADER / "edgepack-run.cpp", ("-O1",), "aarch64-linux-gnu-g++")


@pytest.fixture
def board() -> Iterator[Board]:
    with Board.fresh() as board:
        yield board


def tool(name: str) -> Path:
    return need(Path(shutil.which(name) or name), "board.sh")


def outcome(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def require_passed(answer: dict[str, Any], precision: str) -> None:
    assert answer["passed"], answer
    report = answer["report"]
    assert (report["provider"], report["proven"], report["precision"]) == (CPU, True, precision)
    assert list(report["passed_over"]) == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_both_loaders_prove_the_bundle_on_the_board(
    board: Board, bundles: dict[str, Path], runner: Path, precision: str
) -> None:
    board.put(bundles[precision], f"{HOME}/{BUNDLE}")
    board.put(runner, f"{HOME}/edgepack-run")
    python = outcome(board.run(["python3", "-B", PYTHON_LOADER, "self-test"]))
    (library,) = (board.image / "opt/site/onnxruntime/capi").glob("libonnxruntime.so.*")
    on_board = f"/{library.relative_to(board.image)}"
    cpp = outcome(board.run(["./edgepack-run", "self-test", BUNDLE, "--library", on_board]))
    require_passed(python, precision)
    require_passed(cpp, precision)
    assert [c["max_abs"] for c in cpp["cases"]] == [c["max_abs"] for c in python["cases"]]


def test_install_verifies_copies_and_tests(board: Board, bundles: dict[str, Path]) -> None:
    board.put(bundles["int8"], f"{HOME}/{BUNDLE}")
    done = board.run(["sh", f"{BUNDLE}/install.sh"])
    assert done.returncode == 0, done.stderr
    assert "passed on CPUExecutionProvider" in done.stderr
    assert f"{BUNDLE} is installed in {INSTALLED}" in done.stderr
    assert "there is no systemd here" in done.stderr


def install(board: Board, folder: str) -> subprocess.CompletedProcess[str]:
    """As on a board without Python; qemu starts such a program faster, too."""
    library = "EDGEPACK_ONNXRUNTIME=$(echo /opt/site/onnxruntime/capi/libonnxruntime.so.*)"
    script = f"{library} sh {folder}/{BUNDLE}/install.sh --python none --runner ./edgepack-run"
    return board.run(["sh", "-c", script])


def test_install_puts_only_a_proved_bundle_in_place(
    board: Board, bundles: dict[str, Path], runner: Path, tmp_path: Path
) -> None:
    board.put(runner, f"{HOME}/edgepack-run")
    board.put(bundles["fp32"], f"{HOME}/first/{BUNDLE}")
    done = install(board, "first")
    assert (done.returncode, "is installed in" in done.stderr) == (0, True), done.stderr
    again = install(board, "first")
    assert (again.returncode, "is installed already" in again.stderr) == (0, True), again.stderr

    broken = shutil.copytree(bundles["int8"], tmp_path / BUNDLE)
    (model,) = (broken / "model").iterdir()
    model.write_bytes(model.read_bytes()[:-1] + b"?")
    board.put(broken, f"{HOME}/second/{BUNDLE}")
    refused = install(board, "second")
    assert refused.returncode == 1
    assert "file-corrupt" in refused.stderr
    assert "fix:   copy the bundle to this board again" in refused.stderr
    assert sorted(p.name for p in board.get(INSTALLED).parent.iterdir()) == [BUNDLE]
    assert install(board, "first").returncode == 0

    board.put(bundles["int8"], f"{HOME}/third/{BUNDLE}")
    assert install(board, "third").returncode == 0
    manifest = json.loads((board.get(INSTALLED) / "manifest.json").read_text())
    assert manifest["model"]["precision"] == "int8"


def test_a_power_cut_while_installing_leaves_the_old_one(
    board: Board, bundles: dict[str, Path], runner: Path
) -> None:
    board.put(runner, f"{HOME}/edgepack-run")
    board.put(bundles["fp32"], f"{HOME}/first/{BUNDLE}")
    assert install(board, "first").returncode == 0
    # The moment between the two renames.
    board.run(["mv", INSTALLED, f"{INSTALLED}.old"])
    done = install(board, "first")
    assert (done.returncode, "is installed already" in done.stderr) == (0, True), done.stderr


FAKE_SYSTEMCTL = """#!/bin/sh
echo "$@" >>"$HOME/systemctl"
"""


def test_install_writes_a_unit_that_runs_what_was_installed(
    board: Board, bundles: dict[str, Path], runner: Path, tmp_path: Path
) -> None:
    fake = tmp_path / "systemctl"
    fake.write_text(FAKE_SYSTEMCTL)
    fake.chmod(0o755)
    board.put(fake, "/usr/local/bin/systemctl", 0)
    board.put(runner, f"{HOME}/edgepack-run")
    board.put(bundles["fp32"], f"{HOME}/first/{BUNDLE}")
    done = install(board, "first")
    assert done.returncode == 0, done.stderr
    assert board.get(f"{HOME}/systemctl").read_text().splitlines() == [
        "--user daemon-reload",
        f"--user enable --quiet edgepack-{BUNDLE}.service",
    ]
    (unit,) = board.get(f"{HOME}/.config/systemd/user").iterdir()
    text = unit.read_text()
    assert "WantedBy=default.target" in text
    # As systemd would: its environment, then each command.
    environment = re.findall(r'"([A-Z_]+=[^"]+)"', text.split("\nEnvironment=")[1].split("\n")[0])
    assert any(e.startswith("EDGEPACK_ONNXRUNTIME=/opt/site/") for e in environment)
    commands = re.findall(r"^ExecStart=(.*)$", text, re.M)
    assert [shlex.split(c)[1:] for c in commands] == [
        ["check", INSTALLED],
        ["self-test", INSTALLED],
    ]
    for command in commands:
        started = board.run(["env", "-i", *environment, *shlex.split(command)])
        assert started.returncode == 0, started.stderr


def test_install_says_what_is_missing(board: Board, bundles: dict[str, Path]) -> None:
    board.put(bundles["fp32"], f"{HOME}/{BUNDLE}")
    bare = board.run(["sh", "-c", f"PYTHONPATH= sh {BUNDLE}/install.sh"])
    assert bare.returncode == 2
    assert "error: /usr/bin/python3 lacks: numpy onnxruntime" in bare.stderr
    assert "fix:   install it for this Python" in bare.stderr


def test_the_scripts_are_clean() -> None:
    done = subprocess.run(
        [tool("shellcheck"), "--shell=sh", ROOT / "runtime/python/install.sh"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    text = (ROOT / "runtime/python/edgepack.service").read_text()
    values = {
        "NAME": "a",
        "FOLDER": "/opt/edgepack/a",
        "COMMAND": "/bin/true",
        "ENVIRONMENT": '"A=b"',
        "TARGET": "default.target",
    }
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    unit = tmp_path / "edgepack-a.service"
    unit.write_text(text)
    done = subprocess.run([tool("systemd-analyze"), "verify", unit], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "@" not in text.replace("between @.", "")
