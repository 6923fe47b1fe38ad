"""A board's facts come from what it has, and what cannot be told is not guessed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import edgepack_loader
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack_agent import facts
from edgepack_agent.facts import Facts
from tests.agent.jetson import L4T, package, root
from tests.device.board.fakes.onpath import install

ORIN = b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0"
THOR = b"nvidia,p4071-0000+p3834-0008\0nvidia,p3834-0008\0nvidia,tegra264\0"
XAVIER = b"nvidia,p2972-0000\0nvidia,tegra194\0"
MEMINFO = "MemTotal:        7802880 kB\nMemFree:         1024 kB\nMemAvailable:    5242880 kB\n"


def test_an_orin(tmp_path: Path) -> None:
    place = root(
        tmp_path,
        release=L4T["36.4.3"],
        compatible=ORIN,
        model=b"NVIDIA Jetson Orin Nano Developer Kit\0",
        packages=package("libnvinfer10", "10.3.0.30-1+cuda12.5")
        + package("nvidia-jetpack", "6.2+b77"),
        meminfo=MEMINFO,
    )
    found = facts.read(place)
    assert found == found._replace(
        arch=os.uname().machine,
        board="tegra234",
        model="NVIDIA Jetson Orin Nano Developer Kit",
        l4t="36.4.3",
        jetpack="6.2+b77",
        tensorrt="10.3.0.30-1+cuda12.5",
        sm="87",
        memory_total=7802880 * 1024,
        memory_available=5242880 * 1024,
        power_mode=None,
        boot_id=None,
    )


def test_of_an_empty_root_nothing_is_known(tmp_path: Path) -> None:
    found = facts.read(root(tmp_path))
    known = {k for k, v in found.as_json().items() if v is not None}
    assert known == {"arch", "python", "clock"}


@pytest.mark.parametrize(
    ("compatible", "board", "sm"),
    [
        (ORIN, "tegra234", "87"),
        (THOR, "tegra264", "110"),
        (XAVIER, "tegra194", "72"),
        (b"raspberrypi,4\0", None, None),
    ],
)
def test_chip_and_compute_capability(
    tmp_path: Path, compatible: bytes, board: str | None, sm: str | None
) -> None:
    found = facts.read(root(tmp_path, compatible=compatible))
    assert (found.board, found.sm) == (board, sm)


@pytest.mark.parametrize("version", L4T)
def test_l4t(tmp_path: Path, version: str) -> None:
    assert facts.read(root(tmp_path, release=L4T[version])).l4t == version


@pytest.mark.parametrize(
    ("packages", "tensorrt"),
    [
        ([("libnvinfer8", "8.5.2-1+cuda11.4", "install ok installed")], "8.5.2-1+cuda11.4"),
        # Kept back with apt-mark hold: installed all the same.
        ([("libnvinfer10", "10.3.0.30-1+cuda12.5", "hold ok installed")], "10.3.0.30-1+cuda12.5"),
        ([("libnvinfer10", "10.3.0.30-1+cuda12.5", "deinstall ok config-files")], None),
        ([("libnvinfer10", "10.3.0.30-1+cuda12.5", "install ok half-installed")], None),
        ([("libnvinfer-plugin10", "10.3.0.30-1+cuda12.5", "install ok installed")], None),
        (
            [
                ("libnvinfer8", "8.6.2.3-1+cuda12.2", "install ok installed"),
                ("libnvinfer10", "10.3.0.30-1+cuda12.5", "install ok installed"),
            ],
            "10.3.0.30-1+cuda12.5 8.6.2.3-1+cuda12.2",
        ),
    ],
)
def test_tensorrt_is_what_dpkg_has_installed(
    tmp_path: Path, packages: list[tuple[str, str, str]], tensorrt: str | None
) -> None:
    found = facts.read(root(tmp_path, packages="".join(package(*each) for each in packages)))
    assert found.tensorrt == tensorrt


@pytest.mark.parametrize("name", ["nvidia-jetpack", "nvidia-jetpack-runtime"])
def test_jetpack_is_a_package(tmp_path: Path, name: str) -> None:
    assert facts.read(root(tmp_path, packages=package(name, "7.2.1-b49"))).jetpack == "7.2.1-b49"


def test_it_says_what_the_loader_says(tmp_path: Path) -> None:
    """An engine's key and a preflight must never disagree."""
    place = Path(__file__).parent.parent / "runtime" / "fake_orin"
    board, found = edgepack_loader.Board.read(place), facts.read(str(place))
    assert board.sm
    assert (found.model, found.l4t, found.tensorrt, found.sm) == (
        board.board,
        board.l4t,
        board.tensorrt,
        board.sm,
    )


@pytest.mark.parametrize(
    ("recording", "mode"), [("nvpmodel-root", "MAXN"), ("nvpmodel-user", "5W")]
)
def test_the_power_mode_is_nvpmodels_also_where_it_may_not_read_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recording: str, mode: str
) -> None:
    monkeypatch.setenv("PATH", f"{install(tmp_path / 'bin', 'nvpmodel')}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_NVPMODEL", recording)
    assert facts.read().power_mode == mode


@settings(max_examples=40, deadline=None)
@given(
    st.binary(max_size=200), st.binary(max_size=200), st.text(max_size=200), st.text(max_size=200)
)
def test_whatever_the_files_hold_nothing_breaks(
    tmp_path_factory: pytest.TempPathFactory, tree: bytes, model: bytes, release: str, meminfo: str
) -> None:
    place = tmp_path_factory.mktemp("root")
    packages = package("libnvinfer10", "10.3.0.30-1+cuda12.5")
    read = facts.read(
        root(
            place,
            compatible=tree,
            model=model,
            release=release.encode("utf-8", "replace").decode(),
            meminfo=meminfo.encode("utf-8", "replace").decode(),
            packages=packages,
        )
    )
    json.dumps(read.as_json())
    assert read.tensorrt == "10.3.0.30-1+cuda12.5"


def test_here_there_is_memory_and_a_boot() -> None:
    found = facts.read()
    assert found.memory_total
    assert found.memory_available
    assert found.memory_available < found.memory_total
    assert found.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert isinstance(found, Facts)
