"""The real GPU build of onnxruntime on a machine without a GPU: TensorRT, then CUDA, then the CPU, with right answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import CACHE, need
from tests.device.cpp.programs import LOADER as CPP
from tests.device.cpp.programs import compiled, library
from tests.runtime.conftest import LOADER, Copy, with_providers

RUNNER = CPP / "edgepack-run.cpp"
TENSORRT, CUDA, CPU = (f"{n}ExecutionProvider" for n in ("Tensorrt", "CUDA", "CPU"))


@pytest.fixture(scope="module")
def gpu_build() -> Path:
    """The folder to import onnxruntime-gpu from, for this very Python."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has an NVIDIA GPU: nothing would fall back")
    folder = CACHE / "python" / "onnxruntime-gpu"
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    need(folder / f"onnxruntime/capi/onnxruntime_pybind11_state{suffix}", "python.sh")
    return folder


def self_test(bundle: Path, gpu_build: Path, *arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(gpu_build), "XDG_CACHE_HOME": str(bundle.parent)}
    done = subprocess.run(
        [sys.executable, LOADER, "self-test", bundle, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", ["conv-onnx", "multi-onnx", "conv-ort"])
def test_without_a_gpu_the_cpu_answers_and_the_report_says_why(
    copy: Copy, gpu_build: Path, name: str
) -> None:
    bundle = copy(name)
    options = {
        **{"trt_engine_cache_enable": "1", "trt_engine_cache_path": "${cache}"},
        **{"trt_timing_cache_enable": "1", "trt_timing_cache_path": "${cache}"},
    }
    with_providers(bundle, TENSORRT, CUDA, CPU, **options)
    outcome = self_test(bundle, gpu_build)
    report = outcome["report"]
    assert outcome["passed"] is True
    assert (report["provider"], report["proven"], report["fallback"]) == (CPU, True, [])
    assert list(report["passed_over"]) == [TENSORRT, CUDA]
    assert "Please install TensorRT libraries" in report["passed_over"][TENSORRT]
    assert "a library or the device is missing" in report["passed_over"][CUDA]


def test_the_cpp_loader_falls_back_the_same_way(copy: Copy, gpu_build: Path) -> None:
    bundle = copy("conv-onnx")
    with_providers(bundle, TENSORRT, CUDA, CPU, trt_engine_cache_path="${cache}")
    # The GPU build keeps memory until the process ends.
    environment = {"ASAN_OPTIONS": "detect_leaks=0", "XDG_CACHE_HOME": str(bundle.parent)}
    done = subprocess.run(
        [compiled(RUNNER), "self-test", bundle, "--library", library(gpu_build)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    report = outcome["report"]
    assert (outcome["passed"], report["provider"], report["proven"]) == (True, CPU, True)
    assert list(report["passed_over"]) == [TENSORRT, CUDA]
    # The C API passes on the linker's own words.
    assert "libonnxruntime_providers_tensorrt.so" in report["passed_over"][TENSORRT]


def test_this_build_lists_providers_it_cannot_start(copy: Copy, gpu_build: Path) -> None:
    """Why the loader does not ask get_available_providers() what runs; if this fails, it could."""
    program = "import onnxruntime; print(*onnxruntime.get_available_providers())"
    environment = {**os.environ, "PYTHONPATH": str(gpu_build)}
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == [TENSORRT, CUDA, CPU]


def test_a_caller_who_wants_only_the_gpu_is_refused(copy: Copy, gpu_build: Path) -> None:
    bundle = copy("conv-onnx")
    with_providers(bundle, TENSORRT, CUDA, CPU)
    environment = {**os.environ, "PYTHONPATH": str(gpu_build)}
    done = subprocess.run(
        [sys.executable, LOADER, "self-test", bundle, "--providers", f"{TENSORRT},{CUDA}"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    error = json.loads(done.stdout)["error"]
    assert error["kind"] == "provider-unavailable"
    assert TENSORRT in error["message"]
    assert CUDA in error["message"]
