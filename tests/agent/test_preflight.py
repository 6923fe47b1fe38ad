"""What does not fit the board is refused before a byte is written, with what was found and what was wanted."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgepack.resources import TARGETS
from edgepack.targets import load_target
from edgepack_agent import preflight
from edgepack_agent.facts import Facts
from edgepack_trust import Refusal
from tests.agent.jetson import GIB, ORIN, manifest
from tests.trust.bundles import snapshot

ORIN_REQUIRES = {
    "arch": "aarch64",
    "board": "tegra234",
    "l4t": ">=36.4,<37",
    "tensorrt": ">=10.3,<11",
}


class Case(NamedTuple):
    """A board that differs from the one wanted in one thing."""

    kind: str
    says: tuple[str, ...]
    board: dict[str, Any] = {}  # noqa: RUF012
    requires: dict[str, str] = {}  # noqa: RUF012


REFUSED = [
    Case("arch", ("x86_64", "aarch64"), {"arch": "x86_64"}),
    Case(
        "board",
        ("tegra194", "AGX Xavier", "tegra234"),
        {"board": "tegra194", "model": "Jetson AGX Xavier"},
    ),
    Case("board", ("/proc/device-tree", "tegra234"), {"board": None}),
    Case("l4t", ("35.4.1", ">=36.4,<37"), {"l4t": "35.4.1"}),
    Case("l4t", ("36.3.0", ">=36.4,<37"), {"l4t": "36.3.0"}),
    Case("l4t", ("39.2.0",), {"l4t": "39.2.0"}),
    Case("l4t", ("/etc/nv_tegra_release",), {"l4t": None}),
    Case("tensorrt", ("8.6.2.3-1+cuda12.2", ">=10.3,<11"), {"tensorrt": "8.6.2.3-1+cuda12.2"}),
    Case("tensorrt", ("8502",), {"tensorrt": "8502"}),
    Case("tensorrt", ("libnvinfer",), {"tensorrt": None}),
    Case("tensorrt", ("11.0.0",), {"tensorrt": "11.0.0.1-1+cuda13.0"}),
    Case("sm", ("87", ">=110"), {}, {"sm": ">=110"}),
    Case("sm", ("not known",), {"sm": None}, {"sm": ">=87"}),
    Case("board", ("power_mode", "15W", "MAXN"), {}, {"power_mode": "MAXN|MAXN_SUPER"}),
    Case("board", ("jetpack", "6.2+b77"), {}, {"jetpack": ">=7"}),
    Case("board", ("android_api", "knows nothing"), {}, {"android_api": ">=24"}),
    Case("board", ("boot_id", "knows nothing"), {}, {"boot_id": ">=1"}),
    Case("board", ("clock", "knows nothing"), {}, {"clock": ">=1"}),
    Case("board", ("cannot compare", "nonsense"), {}, {"l4t": "nonsense"}),
    Case("memory", ("8.0 GiB", ">=16GiB"), {}, {"memory": ">=16GiB"}),
    Case("memory", ("not known",), {"memory_total": None}, {"memory": ">=4GiB"}),
    Case("memory", ("1.5 KiB", "2.0 KiB", "1000 B"), {"memory_available": 1500}),
    Case("disk", ("requires >=9999999GiB",), {}, {"disk": ">=9999999GiB"}),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: f"{case.kind}: {case.says[0]}")
def test_what_does_not_fit_is_refused_by_name(tmp_path: Path, case: Case) -> None:
    wanted = manifest(**{**ORIN_REQUIRES, **case.requires})
    with pytest.raises(Refusal) as refused:
        preflight.check(wanted, ORIN._replace(**case.board), str(tmp_path / "app"), 100)
    assert refused.value.kind == case.kind
    assert all(said in refused.value.cause for said in case.says), refused.value.cause
    assert refused.value.fix
    assert snapshot(tmp_path) == {}


FITS: list[dict[str, Any]] = [
    {},
    {"tensorrt": "100300"},
    {"tensorrt": "8.6.2.3-1+cuda12.2 10.3.0.30-1+cuda12.5"},
    {"tensorrt": "10.7.0.23-1+cuda12.6"},
    {"l4t": "36.4.7"},
    {"memory_available": None},
    {"power_mode": None, "jetpack": None},
]


@pytest.mark.parametrize("board", FITS, ids=str)
def test_what_fits_may_come(tmp_path: Path, board: dict[str, Any]) -> None:
    found = preflight.check(
        manifest(**ORIN_REQUIRES), ORIN._replace(**board), str(tmp_path / "app"), 100
    )
    compared = {each["what"]: each for each in found}
    assert {*ORIN_REQUIRES, "target", "memory", "writable", "disk"} == set(compared)
    assert compared["l4t"]["wanted"] == ">=36.4,<37"
    assert snapshot(tmp_path) == {}


BOARDS: dict[str, Callable[[], Facts]] = {
    "jetson-orin": lambda: ORIN,
    "jetson-orin-jp7": lambda: ORIN._replace(l4t="39.2.0", tensorrt="10.16.2.10-1+cuda13.2"),
    "jetson-xavier": lambda: ORIN._replace(
        board="tegra194", l4t="35.4.1", tensorrt="8.5.2-1+cuda11.4"
    ),
    "jetson-thor": lambda: ORIN._replace(
        board="tegra264", l4t="38.2.0", tensorrt="10.13.3.9-1+cuda13.0"
    ),
}


@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("board", BOARDS)
def test_each_jetsons_bundle_fits_that_jetson_alone(
    tmp_path: Path, target: str, board: str
) -> None:
    wanted = manifest(**load_target(target).requires)
    if target == board:
        assert preflight.check(wanted, BOARDS[board](), str(tmp_path), 100)
    else:
        with pytest.raises(Refusal):
            preflight.check(wanted, BOARDS[board](), str(tmp_path), 100)


def test_all_targets_for_jetsons_are_in_that_table() -> None:
    assert {p.stem for p in TARGETS.glob("jetson*.yaml")} == set(BOARDS)


def test_a_bundle_without_a_python_loader_is_for_another_device(tmp_path: Path) -> None:
    other = manifest()
    other["files"] = other["files"][1:]
    with pytest.raises(Refusal, match=r"loader/edgepack_loader\.py") as refused:
        preflight.check(other, ORIN, str(tmp_path), 1)
    assert refused.value.kind == "board"


@pytest.mark.parametrize("requires", [None, [], {"l4t": 36}, {"l4t": None}])
def test_requirements_of_another_form_are_refused(tmp_path: Path, requires: Any) -> None:
    wanted = manifest()
    wanted["target"]["requires"] = requires
    with pytest.raises(Refusal, match=r"target\.requires") as refused:
        preflight.check(wanted, ORIN, str(tmp_path), 1)
    assert refused.value.kind == "manifest"


def test_a_disk_too_small_is_refused_with_what_is_free_and_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(
        Refusal, match=r"are free where .* GiB of files, 2\.0 KiB for an engine"
    ) as refused:
        preflight.check(manifest(), ORIN, str(tmp_path / "a/b/c"), 10**18)
    assert refused.value.kind == "disk"


class _Disk(NamedTuple):
    f_flag: int = 0
    f_bavail: int = 1 << 30
    f_frsize: int = 4096
    f_files: int = 1000
    f_favail: int = 1000


def test_a_disk_without_room_for_more_files_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "statvfs", lambda place: _Disk(f_favail=10))
    with pytest.raises(Refusal, match="room for 10 more files; the release needs 66") as refused:
        preflight.check(manifest(), ORIN, str(tmp_path), 1)
    assert refused.value.kind == "disk"
    monkeypatch.setattr(os, "statvfs", lambda place: _Disk(f_files=0, f_favail=0))  # btrfs
    assert preflight.check(manifest(), ORIN, str(tmp_path), 1)


def test_a_read_only_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda place: _Disk(f_flag=os.ST_RDONLY))
    with pytest.raises(Refusal, match="mounted read-only") as refused:
        preflight.check(manifest(), ORIN, str(tmp_path), 1)
    assert refused.value.kind == "read-only"


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda place, mode: False)
    with pytest.raises(Refusal, match=f"may not write to {tmp_path}") as refused:
        preflight.check(manifest(), ORIN, str(tmp_path / "app"), 1)
    assert refused.value.kind == "read-only"


def _python(place: Path, script: str) -> str:
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)
    return str(place)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("exit 3", "does not run"),
        ("echo Segmentation fault >&2; exit 139", "Segmentation fault"),
        ("""echo '{"version": "3.6.9", "missing": []}'""", "is Python 3.6.9; the loader needs 3.8"),
        ("""echo '{"version": "3.10.12", "missing": ["onnxruntime"]}'""", "lacks onnxruntime"),
        (
            """echo '{"version": "3.10.12", "missing": ["numpy", "onnxruntime"]}'""",
            "lacks numpy and onnxruntime",
        ),
    ],
)
def test_an_interpreter_that_cannot_run_the_loader_is_refused(
    tmp_path: Path, script: str, says: str
) -> None:
    with pytest.raises(Refusal) as refused:
        preflight.check(manifest(), ORIN, str(tmp_path), 1, _python(tmp_path / "python", script))
    assert refused.value.kind == "python"
    assert says in refused.value.cause


def test_the_interpreter_of_these_tests_can(tmp_path: Path) -> None:
    found = preflight.check(manifest(), ORIN, str(tmp_path), 1, sys.executable)
    assert found[-1]["what"] == "python"
    assert preflight.check(manifest(), ORIN, str(tmp_path), 1)[-1]["what"] == "disk"
    assert GIB == 1 << 30
