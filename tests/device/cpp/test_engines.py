"""TensorRT's part of the C++ loader, against a fake runtime and a fake board: fallback, and engines that are never another's."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.device.cpp.programs import compiled, library
from tests.runtime.conftest import FAKE_ORIN, Copy, copy, replace, with_providers  # noqa: F401

HERE = Path(__file__).parent
TENSORRT, CUDA, CPU = (f"{n}ExecutionProvider" for n in ("Tensorrt", "CUDA", "CPU"))
OPTIONS = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": "${cache}"}


class Fake:
    """A board with TensorRT, one bundle on it, and a loader that opens it."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.bundle, self.cache, self.orin = bundle, folder / "cache", folder / "orin"
        self._events = folder / "events"
        self._events.touch()
        shutil.copytree(FAKE_ORIN, self.orin)
        with_providers(bundle, TENSORRT, CUDA, CPU, **OPTIONS)
        fake = compiled(HERE / "fake_tensorrt.cpp", ("-shared", "-fPIC"))
        self._command = [compiled(HERE / "engines.cpp"), bundle, fake, self.cache, self.orin]

    def start(self, **fake: str) -> subprocess.Popen[str]:
        real = {"FAKE_REAL": str(library()), "FAKE_EVENTS": str(self._events)}
        return subprocess.Popen(
            self._command,
            env={**os.environ, **real, **fake},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def open(self, **fake: str) -> dict[str, Any]:
        with self.start(**fake) as process:
            out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        answer: dict[str, Any] = json.loads(out)
        return answer

    @property
    def events(self) -> list[str]:
        return self._events.read_text().splitlines()

    @property
    def engine(self) -> Path:
        (found,) = self.cache.rglob("*.engine")
        return found


@pytest.fixture
def fake(copy: Copy, tmp_path: Path) -> Fake:  # noqa: F811
    return Fake(tmp_path, copy("conv-onnx"))


def test_an_engine_is_built_once_and_then_loaded(fake: Fake) -> None:
    first, second = fake.open(), fake.open()
    assert fake.events == ["built engine", "loaded engine"]
    assert (first["provider"], first["proven"]) == (TENSORRT, False)
    assert (first["kept"], first["removed"]) == ([], [])
    assert second["kept"] == [fake.engine.name]
    assert re.fullmatch("[0-9a-f]{32}", Path(first["folder"]).name)
    # As the Python loader reads the same board; not TensorRT 8.6.2, which was removed.
    assert first["board"] == ["NVIDIA Jetson Orin Nano Developer Kit", "36.4.3", "10.3.0.30-1+cuda12.5", "87"]  # fmt: skip


def _foreign(engine: Path) -> None:
    engine.rename(engine.parent.parent.parent / "foreign.engine")
    engine.symlink_to(engine.parent.parent.parent / "foreign.engine")


@pytest.mark.parametrize(
    "change",
    [
        lambda engine: engine.write_bytes(b"evil"),
        lambda engine: Path(f"{engine}.sha256").unlink(),
        lambda engine: Path(f"{engine}.sha256").write_text("0" * 64),
        _foreign,
    ],
    ids=["changed", "without a seal", "with a wrong seal", "a link to another"],
)
def test_an_engine_that_is_not_ours_is_deleted_before_tensorrt_sees_it(
    fake: Fake, change: Callable[[Path], object]
) -> None:
    fake.open()
    change(fake.engine)
    report = fake.open()
    assert fake.events == ["built engine", "built engine"]
    assert report["removed"] == [fake.engine.name]


def test_a_build_that_died_half_way_leaves_nothing_to_load(fake: Fake) -> None:
    report = fake.open(FAKE_FAILS="1")
    assert report["provider"] == CPU
    assert report["passed_over"] == {TENSORRT: "out of memory", CUDA: "no CUDA device"}
    report = fake.open()
    assert (report["removed"], fake.events) == ([fake.engine.name], ["built engine"])


def test_a_provider_without_its_libraries_is_passed_over(fake: Fake) -> None:
    report = fake.open(FAKE_DROPS="1")
    assert (report["provider"], report["proven"]) == (CPU, True)
    assert report["passed_over"][TENSORRT] == "Please install TensorRT libraries"


def _upgrade_tensorrt(fake: Fake) -> dict[str, str]:
    status = fake.orin / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("10.3.0.30", "10.7.0.23"))
    return {}


def _upgrade_l4t(fake: Fake) -> dict[str, str]:
    release = fake.orin / "etc/nv_tegra_release"
    release.write_text(release.read_text().replace("4.3", "4.4"))
    return {}


def _move_to_another_board(fake: Fake) -> dict[str, str]:
    (fake.orin / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")
    return {}


def _change_the_chip(fake: Fake) -> dict[str, str]:
    (fake.orin / "proc/device-tree/compatible").write_bytes(b"nvidia,tegra264\0")
    return {}


def _upgrade_onnxruntime(fake: Fake) -> dict[str, str]:
    return {"FAKE_VERSION": "1.24.0"}


def _change_an_option(fake: Fake) -> dict[str, str]:
    with_providers(fake.bundle, TENSORRT, CUDA, CPU, **OPTIONS, trt_fp16_enable="1")
    return {}


def _change_the_model(fake: Fake) -> dict[str, str]:
    model = "model/conv-onnx.onnx"
    replace(fake.bundle, model, (fake.bundle / model).read_bytes() + b"\x32\x00")
    return {}


@pytest.mark.parametrize(
    "change",
    [
        *(_upgrade_tensorrt, _upgrade_l4t, _move_to_another_board, _change_the_chip),
        *(_upgrade_onnxruntime, _change_an_option, _change_the_model),
    ],
)
def test_an_engine_is_not_used_after_a_change_of(
    fake: Fake, change: Callable[[Fake], dict[str, str]]
) -> None:
    before = fake.open()["folder"]
    after = fake.open(**change(fake))["folder"]
    assert fake.events == ["built engine", "built engine"]
    assert after != before


@pytest.mark.parametrize("unknown", ["var/lib/dpkg/status", "proc/device-tree/compatible"])
def test_no_engine_is_kept_where_tensorrt_or_the_gpu_is_unknown(fake: Fake, unknown: str) -> None:
    (fake.orin / unknown).unlink()
    fake.open()
    fake.open()
    assert fake.events == ["built engine", "built engine"]


def test_the_cache_is_private_and_one_that_others_can_write_to_is_refused(fake: Fake) -> None:
    folder = Path(fake.open()["folder"])
    assert [p.stat().st_mode & 0o777 for p in (folder, folder.parent)] == [0o700, 0o700]
    fake.cache.chmod(0o770)
    report = fake.open()
    assert (report["provider"], fake.events) == (CPU, ["built engine"])
    assert f"chmod 700 {fake.cache}" in report["passed_over"][TENSORRT]


def test_a_second_process_waits_while_an_engine_is_being_built(fake: Fake) -> None:
    folder = Path(fake.open()["folder"])
    with open(folder / "edgepack.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with fake.start() as other:
            with pytest.raises(subprocess.TimeoutExpired):
                other.wait(2.0)
            fcntl.flock(lock, fcntl.LOCK_UN)
            assert other.wait(60.0) == 0
