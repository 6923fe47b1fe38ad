"""`edgepack targets`, and the command line itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import edgepack
from tests.cli.conftest import Command


def test_list_shows_every_target_with_its_precisions_and_providers(command: Command) -> None:
    done = command("targets", "list")
    names = [p.name for p in edgepack.list_targets()]
    assert done.code == 0
    assert all(name in done.out for name in names)
    assert "fp32, fp16, int8" in done.out
    assert "Xnnpack, CPU" in done.out
    assert [t["name"] for t in command("targets", "list", "--json").json] == names


def test_what_show_prints_is_a_profile_that_check_accepts(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(command("targets", "show", "android").out, encoding="utf-8")
    done = command("targets", "check", path)
    assert done.code == 0
    assert f"{path}: valid" in done.out
    assert command("targets", "check", path, "--json").json["valid"] is True
    shown = command("targets", "show", "android", "--json").json
    steps = [s["name"] for s in shown["precisions"]["int8"]["steps"]]
    assert steps == ["tune", "int8", "ort_format"]


def test_check_names_file_line_and_nearest_key(command: Command, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("extends: android\ntitle: Mine\nruntime:\n  packge: x\n")
    done = command("targets", "check", path)
    assert done.code == 4
    assert f"{path}:4: unknown key runtime.packge" in done.err
    assert "did you mean 'package'?" in done.err


def test_show_of_an_unknown_target_names_the_nearest(command: Command) -> None:
    done = command("targets", "show", "jetson-orni", "--json")
    assert done.code == 4
    assert "did you mean 'jetson-orin'?" in done.json["error"]["fix"]


@pytest.mark.parametrize("arguments", [["targets"], []])
def test_without_a_command_there_is_help(command: Command, arguments: list[str]) -> None:
    done = command(*arguments)
    assert "Usage:" in done.out + done.err
    assert "Traceback" not in done.err


def test_an_unknown_command_is_a_usage_error(command: Command) -> None:
    done = command("biuld", "--json")
    assert done.code == 2
    assert done.json["error"]["kind"] == "usage"
    assert "biuld" in done.err


@pytest.mark.parametrize(
    "way", [["-m", "edgepack"], ["-c", "from edgepack.cli.app import main; main()"]]
)
def test_it_starts_as_a_module_and_as_a_script(way: list[str]) -> None:
    done = subprocess.run([sys.executable, *way, "--version"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, edgepack.__version__, "")
