"""A provider with a package of its own, the real OpenVINO: the loader asks it directly, and goes on to the CPU where it cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.device.cpp.programs import LOADER as CPP
from tests.device.cpp.programs import compiled, library
from tests.runtime.conftest import Copy, edit, feeds_of

OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"


def with_openvino(bundle: Path, package: str = "openvino", **options: str) -> None:
    """Let OpenVINO lead, the CPU behind it."""
    first = {"name": OPENVINO, "options": options, "package": package, "version": "2026.4.1"}
    providers = [first, {"name": CPU, "options": {}}]
    edit(bundle, lambda manifest: manifest["runtime"].update(providers=providers))


@pytest.mark.parametrize("name", ["conv-onnx", "multi-onnx"])
def test_openvino_gives_the_golden_answers_and_the_report_says_who_gave_them(
    loader: ModuleType, copy: Copy, name: str
) -> None:
    bundle = copy(name)
    with_openvino(bundle, INFERENCE_PRECISION_HINT="f32", NUM_STREAMS="1")
    with loader.EdgepackBundle.open(bundle).session(threads=1) as session:
        outcome, report = session.self_test(), session.report()
    assert outcome["passed"], outcome
    assert (report["provider"], report["proven"], report["nodes"]) == (OPENVINO, True, None)
    assert report["runtime_version"].startswith("openvino 20")
    assert (report["fallback"], report["passed_over"]) == ([], {})


def test_answers_are_the_callers_own(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    with_openvino(bundle)
    feed = feeds_of(bundle)
    with loader.EdgepackBundle.open(bundle).session() as session:
        first = session.run(feed)
        kept = {name: value.copy() for name, value in first.items()}
        session.run({name: value + 1 for name, value in feed.items()})
    for name, value in kept.items():
        assert np.array_equal(first[name], value)


def test_calls_from_several_threads_do_not_meet(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    with_openvino(bundle, INFERENCE_PRECISION_HINT="f32")
    feed = feeds_of(bundle)
    feeds = [{name: value * (1 + k) for name, value in feed.items()} for k in range(8)]
    with loader.EdgepackBundle.open(bundle).session() as session:
        alone = [session.run(f) for f in feeds]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(session.run, feeds * 5))
    for got, want in zip(together, alone * 5, strict=True):
        for name, value in want.items():
            np.testing.assert_array_equal(got[name], value)


def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)


def fake_cpu_without_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such CPU is at hand, and the real OpenVINO cannot be told to be on one."""
    core = SimpleNamespace(get_property=lambda device, key: ["FP32", "INT8"])
    fake = SimpleNamespace(__version__="2026.4.1-fake", Core=lambda: core)
    monkeypatch.setitem(sys.modules, "openvino", fake)


@pytest.mark.parametrize(
    ("made", "options", "why"),
    [
        (without_openvino, {}, "openvino"),
        (
            fake_cpu_without_bfloat16,
            {"INFERENCE_PRECISION_HINT": "bf16"},
            "this CPU has no BF16 arithmetic",
        ),
    ],
)
def test_where_it_cannot_be_had_the_cpu_answers_and_the_report_says_why(
    loader: ModuleType,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    made: object,
    options: dict[str, str],
    why: str,
) -> None:
    assert callable(made)
    made(monkeypatch)
    bundle = copy("conv-onnx")
    with_openvino(bundle, **options)
    with loader.EdgepackBundle.open(bundle).session() as session:
        assert session.self_test()["passed"]
        report = session.report()
    assert report["provider"] == CPU
    assert why in report["passed_over"][OPENVINO]


@pytest.mark.parametrize(
    ("package", "options", "why"),
    [
        ("openvino", {"NO_SUCH_PROPERTY": "1"}, "NO_SUCH_PROPERTY"),
        ("something", {}, "knows no package 'something'"),
        (["openvino"], {}, "list"),
    ],
)
def test_options_and_packages_that_nobody_knows_are_passed_over(
    loader: ModuleType, copy: Copy, package: str, options: dict[str, str], why: str
) -> None:
    bundle = copy("conv-onnx")
    with_openvino(bundle, package, **options)
    with loader.EdgepackBundle.open(bundle).session() as session:
        report = session.report()
    assert report["provider"] == CPU
    assert why in report["passed_over"][OPENVINO]


def test_a_caller_who_wants_nothing_else_is_refused_where_it_is_missing(
    loader: ModuleType, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_openvino(monkeypatch)
    bundle = copy("conv-onnx")
    with_openvino(bundle)
    with pytest.raises(loader.EdgepackError, match="OpenVINOExecutionProvider") as caught:
        loader.EdgepackBundle.open(bundle).session(providers=[OPENVINO])
    assert caught.value.kind == "provider-unavailable"


def test_the_cpp_loader_goes_on_to_the_cpu_which_is_all_it_has(copy: Copy) -> None:
    bundle = copy("conv-onnx")
    with_openvino(bundle, INFERENCE_PRECISION_HINT="f32")
    done = subprocess.run(
        [compiled(CPP / "edgepack-run.cpp"), "self-test", bundle, "--library", library()],
        env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(done.stdout)
    assert (outcome["passed"], outcome["report"]["provider"]) == (True, CPU)
    assert list(outcome["report"]["passed_over"]) == [OPENVINO]
