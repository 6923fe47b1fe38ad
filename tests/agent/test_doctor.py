"""The doctor says what a board lacks, and how to get it; it writes nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepack_agent import doctor, facts
from edgepack_agent.facts import Facts
from tests.agent.jetson import GIB, ORIN, manifest
from tests.trust.bundles import snapshot, trust_data

HERE = ORIN._replace(clock=1_795_715_068)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app's folder, as a flash leaves it."""
    place = tmp_path / "root/digits"
    (place / "releases/7-ab12ab12ab12").mkdir(parents=True)
    for folder in (place.parent, place):
        folder.chmod(0o755)
    requires = {"board": "tegra234", "l4t": ">=36.4,<37", "tensorrt": ">=10.3,<11"}
    (place / "releases/7-ab12ab12ab12/manifest.json").write_text(json.dumps(manifest(**requires)))
    (place / "current").symlink_to("releases/7-ab12ab12ab12")
    (place / "trust.json").write_text(json.dumps(trust_data()))
    return place


@pytest.fixture
def examine(
    app: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., dict[str, dict[str, Any]]]:
    units = tmp_path / "units"
    units.mkdir()
    monkeypatch.setattr(doctor, "_UNITS", (str(units),))

    def run(board: Facts = HERE) -> dict[str, dict[str, Any]]:
        monkeypatch.setattr(facts, "read", lambda: board)
        before = snapshot(app.parent)
        found = doctor.examine(str(app.parent), "digits")
        assert snapshot(app.parent) == before
        assert all(set(f) == {"what", "ok", "found", "wanted", "fix"} for f in found)
        assert all(bool(f["fix"]) is not f["ok"] for f in found)
        json.dumps(found)
        return {f["what"]: f for f in found}

    return run


def test_what_a_jetson_is_is_told(examine: Callable[..., Any]) -> None:
    found = examine()
    told = {
        name: found[name]["found"]
        for name in ("arch", "board", "sm", "l4t", "jetpack", "power_mode", "tensorrt")
    }
    assert told == {
        **{
            "arch": "aarch64",
            "board": "tegra234",
            "sm": "87",
            "l4t": "36.4.3",
            "jetpack": "6.2+b77",
        },
        **{"power_mode": "15W", "tensorrt": "10.3.0.30-1+cuda12.5"},
    }
    assert found["current"]["ok"]
    assert found["python"]["ok"]
    assert found["openssl"]["found"].startswith("OpenSSL")


def test_pypis_onnxruntime_on_a_jetson_is_a_finding(examine: Callable[..., Any]) -> None:
    found = examine()["onnxruntime"]
    assert (found["ok"], found["wanted"]) == (False, "TensorrtExecutionProvider")
    assert "onnxruntime-gpu" in found["fix"]
    assert examine(HERE._replace(board=None))["onnxruntime"]["ok"]


@pytest.mark.parametrize(
    ("board", "what", "fix"),
    [
        ({"tensorrt": None}, "tensorrt", "apt-get install"),
        ({"memory_available": GIB // 2}, "memory", "swap"),
        ({"clock": 1000}, "clock", "timedatectl"),
        ({"l4t": "39.2.0"}, "current", "JetPack"),
        ({"tensorrt": "10.16.2.10-1+cuda13.2", "l4t": "39.2.0"}, "current", "JetPack"),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_board_is_found(
    examine: Callable[..., Any], board: dict[str, Any], what: str, fix: str
) -> None:
    found = examine(HERE._replace(**board))[what]
    assert not found["ok"]
    assert fix in found["fix"]


def test_a_folder_that_others_can_write_to_is_found(examine: Callable[..., Any], app: Path) -> None:
    assert examine()[f"owner of {app}"]["ok"]
    app.chmod(0o777)
    found = examine()[f"owner of {app}"]
    assert not found["ok"]
    assert f"chmod go-w {app}" in found["fix"]


def test_a_half_built_engine_is_found(examine: Callable[..., Any], app: Path) -> None:
    assert "engines" not in examine()
    (app / "engines/0123").mkdir(parents=True)
    (app / "engines/0123/engine.plan.part").write_bytes(b"x")
    assert "engine.plan.part" in examine()["engines"]["found"]


@pytest.mark.parametrize(
    ("line", "ok"),
    [
        (
            "ExecStartPre=/usr/bin/python3 -I /var/lib/edgepack/agent/current.pyz --app digits recover",
            True,
        ),
        ("ExecStart=/usr/bin/python3 -I a.pyz --root /r --app=digits recover", True),
        ("ExecStartPre=/usr/bin/python3 -I a.pyz --app digits2 recover", False),
        ("#ExecStartPre=/usr/bin/python3 -I a.pyz --app digits recover", False),
        ("ExecStart=/usr/bin/digits", False),
    ],
)
def test_recovery_at_boot_is_a_unit_of_this_app(
    examine: Callable[..., Any], tmp_path: Path, line: str, ok: bool
) -> None:
    assert not examine()["recovery at boot"]["ok"]
    (tmp_path / "units/digits.service").write_text(f"[Service]\n{line}\n")
    found = examine()["recovery at boot"]
    assert found["ok"] is ok
    assert ok or "--app digits recover" in found["fix"]


def test_a_spoilt_release_is_found_and_none_is_no_fault(
    examine: Callable[..., Any], app: Path
) -> None:
    (app / "releases/7-ab12ab12ab12/manifest.json").write_text("{")
    assert not examine()["current"]["ok"]
    (app / "current").unlink()
    assert examine()["current"] == {
        "what": "current",
        "ok": True,
        "found": "no release is installed",
        "wanted": "",
        "fix": "",
    }


KEY = {"tensorrt": ORIN.tensorrt, "sm": "87", "l4t": "36.4.3"}


@pytest.mark.parametrize(
    "report",
    [
        {"engine": {"built": "trtexec", "key": KEY}, "golden": {"report": {}}},
        {"engine": {"built": "none"}, "golden": {"report": {"engine_cache": {"key": KEY}}}},
    ],
    ids=["trtexec", "onnxruntime"],
)
def test_an_engine_for_an_older_jetpack_is_found(
    examine: Callable[..., Any], app: Path, report: dict[str, Any]
) -> None:
    assert "its engine" not in examine()
    (app / "reports").mkdir()
    (app / "reports/7-ab12ab12ab12.json").write_text(json.dumps(report))
    assert examine()["its engine"]["ok"]
    found = examine(HERE._replace(l4t="36.5.0"))["its engine"]
    assert not found["ok"]
    assert ("36.4.3" in found["found"], "36.5.0" in found["wanted"]) == (True, True)
    assert "flash the release again" in found["fix"]


def test_before_the_first_flash_there_is_nothing_to_complain_of(
    examine: Callable[..., Any], app: Path
) -> None:
    shutil.rmtree(app.parent)
    found = examine()
    assert found["writable"]["ok"]
    assert f"owner of {app}" not in found
    assert os.path.exists(found["writable"]["found"])
