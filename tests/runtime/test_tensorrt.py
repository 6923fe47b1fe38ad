"""TensorRT's part, against a fake onnxruntime and a fake board: fallback, and engines that are never another's."""

from __future__ import annotations

import fcntl
import json
import multiprocessing
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.runtime.conftest import FAKE_ORIN, Copy, edit, feeds_of, replace, with_providers
from tests.runtime.fake_onnxruntime import CPU, CUDA, TENSORRT, FakeOnnxRuntime

OPTIONS = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": "${cache}"}


@pytest.fixture
def ort(monkeypatch: pytest.MonkeyPatch) -> FakeOnnxRuntime:
    fake = FakeOnnxRuntime()
    monkeypatch.setitem(sys.modules, "onnxruntime", fake)
    return fake


@pytest.fixture
def bundle(copy: Copy) -> Path:
    folder = copy("conv-onnx")
    with_providers(folder, TENSORRT, CUDA, CPU, **OPTIONS)
    return folder


@pytest.fixture
def orin(tmp_path: Path) -> Path:
    return shutil.copytree(FAKE_ORIN, tmp_path / "fake_orin")


Report = dict[str, Any]
Opener = Callable[[], Report]


@pytest.fixture
def open_and_report(loader: ModuleType, bundle: Path, orin: Path, tmp_path: Path) -> Opener:
    """Open a session as that board, run the self-test, close, and give the report."""

    def open_(cache: Path = tmp_path / "cache") -> Report:
        board = loader.Board.read(orin)
        with loader.EdgepackBundle.open(bundle).session(cache_dir=cache, board=board) as session:
            assert session.self_test()["passed"]
            return session.report()

    return open_


# --- board --------------------------------------------------------------------------------------------


def test_a_board_is_read_from_its_own_files(loader: ModuleType) -> None:
    assert loader.Board.read(FAKE_ORIN) == loader.Board(
        board="NVIDIA Jetson Orin Nano Developer Kit",
        l4t="36.4.3",
        tensorrt="10.3.0.30-1+cuda12.5",  # not 8.6.2, which was removed
        sm="87",
    )


@pytest.mark.parametrize(("chip", "sm"), [("194", "72"), ("234", "87"), ("264", "110")])
def test_the_sm_follows_the_chip(loader: ModuleType, orin: Path, chip: str, sm: str) -> None:
    compatible = f"nvidia,board\0nvidia,tegra{chip}\0".encode()
    (orin / "proc/device-tree/compatible").write_bytes(compatible)
    assert loader.Board.read(orin).sm == sm


def test_an_unknown_board_is_empty_not_an_error(loader: ModuleType, tmp_path: Path) -> None:
    assert loader.Board.read(tmp_path) == loader.Board()


# --- fallback -----------------------------------------------------------------------------------------


def test_tensorrt_leads_with_the_others_behind_it(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    report = open_and_report()
    assert ort.asked == [[TENSORRT, CUDA, CPU]]
    assert (report["provider"], report["fallback"]) == (TENSORRT, [CUDA, CPU])
    assert (report["nodes"], report["proven"]) == ({TENSORRT: 2}, True)
    assert report["passed_over"] == {}


def test_only_what_is_compiled_in_stands_behind(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.compiled_in = [TENSORRT, CPU]
    open_and_report()
    assert ort.asked == [[TENSORRT, CPU]]


def test_what_onnxruntime_prints_does_not_reach_stdout(
    ort: FakeOnnxRuntime, loader: ModuleType, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with_providers(bundle, TENSORRT, CPU)
    ort.prints = "EP Error: falling back"
    assert loader.main(["self-test", str(bundle)]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["passed"] is True
    assert ort.prints in err


def test_nodes_left_to_another_provider_are_not_hidden(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.takes_nodes = [TENSORRT, CPU]
    report = open_and_report()
    assert (report["provider"], report["proven"]) == (TENSORRT, False)
    assert report["nodes"] == {TENSORRT: 2, CPU: 2}


def test_an_onnxruntime_that_cannot_tell_proves_nothing(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.takes_nodes = None
    report = open_and_report()
    assert (report["provider"], report["nodes"], report["proven"]) == (TENSORRT, None, False)


def test_a_provider_that_raises_is_passed_over_with_its_words(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.fails_on, ort.takes_nodes = TENSORRT, [CUDA]
    report = open_and_report()
    assert ort.asked == [[TENSORRT, CUDA, CPU], [CUDA, CPU]]
    assert report["provider"] == CUDA
    assert report["passed_over"] == {TENSORRT: "Please install TensorRT libraries"}


def test_a_provider_onnxruntime_silently_drops_is_passed_over(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.starts, ort.takes_nodes = [CPU], [CPU]
    report = open_and_report()
    assert (report["provider"], report["proven"]) == (CPU, True)
    assert list(report["passed_over"]) == [TENSORRT, CUDA]
    assert all("is missing" in why for why in report["passed_over"].values())


def test_a_provider_that_takes_no_node_is_passed_over(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.takes_nodes = [CUDA]
    report = open_and_report()
    assert report["provider"] == CUDA
    assert "takes none of the model's nodes" in report["passed_over"][TENSORRT]


# --- engines ------------------------------------------------------------------------------------------


def _engine(report: Report) -> Path:
    (engine,) = Path(report["engine_cache"]["folder"]).glob("*.engine")
    return engine


def test_an_engine_is_built_once_and_then_loaded(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    first, second = open_and_report(), open_and_report()
    assert ort.events == ["built engine", "loaded engine"]
    assert (first["engine_cache"]["kept"], first["engine_cache"]["removed"]) == ([], [])
    assert second["engine_cache"]["kept"] == [_engine(second).name]
    assert second["engine_cache"]["key"]["tensorrt"] == "10.3.0.30-1+cuda12.5"


def test_a_changed_engine_is_deleted_before_tensorrt_sees_it(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    _engine(open_and_report()).write_bytes(b"evil")
    report = open_and_report()
    assert ort.events == ["built engine", "built engine"]
    assert report["engine_cache"]["removed"] == [_engine(report).name]


@pytest.mark.parametrize("seal", [None, "", "0" * 64, "\udcff"])
def test_an_engine_without_a_right_seal_is_deleted(
    ort: FakeOnnxRuntime, open_and_report: Opener, seal: str | None
) -> None:
    sidecar = Path(f"{_engine(open_and_report())}.sha256")
    if seal is None:
        sidecar.unlink()
    else:
        sidecar.write_bytes(seal.encode(errors="surrogateescape"))
    open_and_report()
    assert ort.events == ["built engine", "built engine"]


def test_a_link_to_a_foreign_engine_is_deleted_even_with_its_right_hash(
    ort: FakeOnnxRuntime, open_and_report: Opener, tmp_path: Path
) -> None:
    engine = _engine(open_and_report())
    engine.rename(tmp_path / "foreign.engine")
    engine.symlink_to(tmp_path / "foreign.engine")
    open_and_report()
    assert ort.events == ["built engine", "built engine"]
    assert (tmp_path / "foreign.engine").exists()


def test_a_build_that_died_half_way_leaves_nothing_to_load(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    ort.builds, ort.takes_nodes = None, None
    report = open_and_report()
    assert report["provider"] == CUDA
    assert report["passed_over"] == {TENSORRT: "out of memory"}
    ort.builds = b"whole"
    report = open_and_report()
    assert ort.events == ["built whole"]
    assert report["engine_cache"]["removed"] == [_engine(report).name]


def test_an_engine_is_sealed_as_soon_as_its_session_is_open(
    loader: ModuleType, ort: FakeOnnxRuntime, bundle: Path, orin: Path, tmp_path: Path
) -> None:
    opened, board = loader.EdgepackBundle.open(bundle), loader.Board.read(orin)
    for _ in range(2):
        opened.session(cache_dir=tmp_path / "c", board=board)  # never closed, as by a power cut
    assert ort.events == ["built engine", "loaded engine"]


def test_an_engine_built_while_running_is_sealed_on_close(
    loader: ModuleType, ort: FakeOnnxRuntime, bundle: Path, orin: Path, tmp_path: Path
) -> None:
    def session() -> Any:
        board = loader.Board.read(orin)
        return loader.EdgepackBundle.open(bundle).session(cache_dir=tmp_path / "c", board=board)

    with session() as first:
        first.run(feeds_of(bundle))
        late = Path(first.report()["engine_cache"]["folder"]) / "late.engine"
        late.write_bytes(b"for batch 8")
    with session() as second:
        assert late.name in second.report()["engine_cache"]["kept"]


def _upgrade_tensorrt(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    status = orin / "var/lib/dpkg/status"
    status.write_text(status.read_text().replace("10.3.0.30", "10.7.0.23"))


def _upgrade_l4t(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    release = orin / "etc/nv_tegra_release"
    release.write_text(release.read_text().replace("4.3", "4.4"))


def _move_to_another_board(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    (orin / "proc/device-tree/model").write_bytes(b"NVIDIA Jetson AGX Orin Developer Kit\0")


def _change_the_chip(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    (orin / "proc/device-tree/compatible").write_bytes(b"nvidia,tegra264\0")


def _upgrade_onnxruntime(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    ort.__version__ = "1.24.0"


def _change_an_option(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    with_providers(bundle, TENSORRT, CUDA, CPU, **OPTIONS, trt_fp16_enable="1")


def _change_the_model(orin: Path, bundle: Path, ort: FakeOnnxRuntime) -> None:
    model = "model/conv-onnx.onnx"
    replace(bundle, model, (bundle / model).read_bytes() + b"\x32\x00")  # an empty doc_string


@pytest.mark.parametrize(
    "change",
    [
        *(_upgrade_tensorrt, _upgrade_l4t, _move_to_another_board, _change_the_chip),
        *(_upgrade_onnxruntime, _change_an_option, _change_the_model),
    ],
)
def test_an_engine_is_not_used_after_a_change_of(
    ort: FakeOnnxRuntime,
    open_and_report: Opener,
    orin: Path,
    bundle: Path,
    change: Callable[[Path, Path, FakeOnnxRuntime], None],
) -> None:
    before = open_and_report()["engine_cache"]
    change(orin, bundle, ort)
    after = open_and_report()["engine_cache"]
    assert ort.events == ["built engine", "built engine"]
    assert after["folder"] != before["folder"]


@pytest.mark.parametrize("unknown", ["var/lib/dpkg/status", "proc/device-tree/compatible"])
def test_no_engine_is_kept_where_tensorrt_or_the_gpu_is_unknown(
    ort: FakeOnnxRuntime, open_and_report: Opener, orin: Path, unknown: str
) -> None:
    (orin / unknown).unlink()
    open_and_report()
    open_and_report()
    assert ort.events == ["built engine", "built engine"]


def test_the_cache_is_private_whatever_the_umask(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    before = os.umask(0)
    try:
        folder = Path(open_and_report()["engine_cache"]["folder"])
    finally:
        os.umask(before)
    assert [p.stat().st_mode & 0o777 for p in (folder, folder.parent)] == [0o700, 0o700]


def test_a_cache_that_others_can_write_to_is_refused(
    ort: FakeOnnxRuntime, open_and_report: Opener, tmp_path: Path
) -> None:
    ort.takes_nodes = None
    open_and_report()
    (tmp_path / "cache").chmod(0o770)
    report = open_and_report()
    assert ort.events == ["built engine"]
    assert report["provider"] == CUDA
    why = f"{tmp_path / 'cache'} can be written by others: chmod 700 {tmp_path / 'cache'}"
    assert report["passed_over"] == {TENSORRT: why}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_cache_of_another_user_is_refused(
    ort: FakeOnnxRuntime, open_and_report: Opener, tmp_path: Path
) -> None:
    ort.takes_nodes = None
    open_and_report()
    os.chown(tmp_path / "cache", 12345, 12345)
    report = open_and_report()
    assert ort.events == ["built engine"]
    assert "belongs to uid 12345" in report["passed_over"][TENSORRT]


def test_the_default_place_is_the_users_cache(
    ort: FakeOnnxRuntime,
    loader: ModuleType,
    bundle: Path,
    orin: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = loader.EdgepackBundle.open(bundle)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    report = opened.session(board=loader.Board.read(orin)).report()
    assert Path(report["engine_cache"]["folder"]).parent == tmp_path / "home/.cache/edgepack"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    report = opened.session(board=loader.Board.read(orin)).report()
    assert Path(report["engine_cache"]["folder"]).parent == tmp_path / "xdg/edgepack"


def test_the_placeholder_may_stand_inside_a_value(
    ort: FakeOnnxRuntime, open_and_report: Opener, bundle: Path
) -> None:
    nested = {**OPTIONS, "trt_engine_cache_path": "${cache}/."}
    with_providers(bundle, TENSORRT, CUDA, CPU, **nested)
    open_and_report()
    open_and_report()
    assert ort.events == ["built engine", "loaded engine"]


def test_a_second_process_waits_while_an_engine_is_being_built(
    ort: FakeOnnxRuntime, open_and_report: Opener
) -> None:
    folder = Path(open_and_report()["engine_cache"]["folder"])
    with open(folder / "edgepack.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        other = multiprocessing.get_context("fork").Process(target=open_and_report)
        other.start()
        other.join(1.0)
        assert other.is_alive()
        fcntl.flock(lock, fcntl.LOCK_UN)
        other.join(30.0)
    assert other.exitcode == 0


def test_no_folder_is_made_for_a_bundle_that_wants_no_cache(
    ort: FakeOnnxRuntime, open_and_report: Opener, bundle: Path, tmp_path: Path
) -> None:
    with_providers(bundle, TENSORRT, CUDA, CPU)
    assert open_and_report()["engine_cache"] is None
    assert not (tmp_path / "cache").exists()


def test_the_folders_name_says_nothing_and_is_safe(
    ort: FakeOnnxRuntime, open_and_report: Opener, orin: Path
) -> None:
    (orin / "proc/device-tree/model").write_bytes(b"../../evil\0")
    folder = Path(open_and_report()["engine_cache"]["folder"])
    assert re.fullmatch("[0-9a-f]{32}", folder.name)


def test_a_provider_without_its_library_is_passed_over_before_a_folder_is_made(
    ort: FakeOnnxRuntime, open_and_report: Opener, bundle: Path, tmp_path: Path
) -> None:
    ort.compiled_in, ort.takes_nodes = [CPU], [CPU]
    edit(bundle, lambda m: m["runtime"].update(language="python"))
    report = open_and_report()
    assert report["provider"] == CPU
    assert not (tmp_path / "cache").exists()
