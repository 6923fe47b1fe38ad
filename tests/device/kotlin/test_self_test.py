"""The self-test passes what is right and nothing else, and the report says what ran."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.device.kotlin.bundles import Bundle, Copy, refused, set_at
from tests.device.kotlin.jvm import Jvm

XNNPACK = {"name": "XnnpackExecutionProvider", "options": {"intra_op_num_threads": "2"}}
NNAPI = {"name": "NnapiExecutionProvider", "options": {"flags": "USE_FP16,CPU_DISABLED"}}
CPU = {"name": "CPUExecutionProvider", "options": {}}


def expectation(bundle: Bundle, values: list[float], case: int = 1) -> Path:
    """The bundle with that answer expected of a golden case."""
    return bundle.put(f"golden/{case}/source-0.bin", np.array(values, np.float32).tobytes())


@pytest.mark.parametrize("wrong", [0.5, np.nan, np.inf, -np.inf])
def test_a_wrong_answer_fails_the_self_test(jvm: Jvm, copy: Copy, wrong: float) -> None:
    bundle = copy("conv-ort")
    good = np.fromfile(bundle.folder / "golden/1/source-0.bin", np.float32).tolist()
    report = jvm.self_test(expectation(bundle, [*good[:-1], good[-1] + wrong]))
    assert not report["passed"]
    (miss,) = [case for case in report["cases"] if not case["passed"]]
    assert (miss["case"], miss["output"], miss["from"]) == ("1", "probabilities", "source")
    if np.isfinite(wrong):
        assert miss["max_abs"] == pytest.approx(0.5)
    else:
        assert miss["max_abs"] is None


def test_a_tolerance_is_atol_and_rtol_of_the_expected_value(jvm: Jvm, copy: Copy) -> None:
    bundle = copy("conv-ort")
    good = np.fromfile(bundle.folder / "golden/1/source-0.bin", np.float32)
    expectation(bundle, (good * 2).tolist())
    tolerances = "golden.1.expect.1"
    bundle.edit(set_at(f"{tolerances}.atol", 0))
    assert jvm.self_test(bundle.edit(set_at(f"{tolerances}.rtol", 0.501)))["passed"]
    assert not jvm.self_test(bundle.edit(set_at(f"{tolerances}.rtol", 0.499)))["passed"]


def test_another_shape_or_dtype_fails_the_self_test(jvm: Jvm, copy: Copy) -> None:
    bundle = copy("conv-ort")
    for key, value in (("shape", [10]), ("dtype", "int32"), ("name", "logits")):
        report = jvm.self_test(bundle.edit(set_at(f"golden.0.expect.0.{key}", value)))
        assert [case["max_abs"] for case in report["cases"] if not case["passed"]] == [None]


def test_a_self_test_of_nothing_does_not_pass(jvm: Jvm, copy: Copy) -> None:
    report = jvm.self_test(copy("conv-ort").edit(set_at("golden", [])))
    assert (report["passed"], report["cases"]) == (False, [])


def test_large_integers_are_compared_as_integers(jvm: Jvm, copy: Copy) -> None:
    """2^60 and 2^60 + 1 are one and the same float64."""
    bundle = copy("multi-ort")
    bundle.put("golden/0/input-5.bin", np.full((2, 3), 2**60, np.int64).tobytes())
    for source, off in (("shipped", 1), ("source", 0)):
        expected = np.full((2, 3), 2**60 + off, np.int64)
        bundle.put(f"golden/0/{source}-5.bin", expected.tobytes())
    for case in (10, 11):
        bundle.edit(set_at(f"golden.0.expect.{case}.rtol", 0))
    report = jvm.self_test(bundle.folder)
    (miss,) = [case for case in report["cases"] if not case["passed"]]
    assert (miss["output"], miss["from"], miss["max_abs"]) == ("out_i64", "shipped", 1)


def test_a_provider_that_is_not_there_is_passed_over_and_reported(jvm: Jvm, copy: Copy) -> None:
    bundle = copy("conv-ort").edit(set_at("runtime.providers", [XNNPACK, NNAPI, CPU]))
    report = jvm.self_test(bundle)
    assert report["passed"]
    assert report["report"]["provider"] == "CPUExecutionProvider"
    assert list(report["report"]["passed_over"]) == [XNNPACK["name"], NNAPI["name"]]
    assert all(report["report"]["passed_over"].values())
    assert report["report"]["runtime_version"] == "1.29.0"
    assert report["report"]["precision"] == "fp32"
    assert len(report["report"]["model_sha256"]) == 64


@pytest.mark.parametrize("threads", [None, 1, 2])
def test_the_app_chooses_among_the_manifests_providers(
    jvm: Jvm, copy: Copy, threads: int | None
) -> None:
    bundle = copy("conv-ort").edit(set_at("runtime.providers", [XNNPACK, CPU]))
    report = jvm.self_test(bundle, providers=["CPUExecutionProvider"], threads=threads)
    assert report["passed"]
    assert report["report"]["passed_over"] == {}


def test_no_provider_at_all_says_why_of_each(jvm: Jvm, copy: Copy) -> None:
    vulkan = {"name": "VulkanExecutionProvider", "options": {}}
    bundle = copy("conv-ort").edit(set_at("runtime.providers", [XNNPACK, vulkan]))
    error = refused(jvm, bundle, providers=[XNNPACK["name"], vulkan["name"], CPU["name"]])
    assert error.kind == "provider-unavailable"
    assert "XnnpackExecutionProvider" in error.message
    assert '"VulkanExecutionProvider":"this loader cannot open it' in error.message
    assert '"CPUExecutionProvider":"manifest.json does not list it' in error.message


def test_a_model_the_runtime_cannot_read_is_a_provider_that_does_not_open(
    jvm: Jvm, copy: Copy
) -> None:
    error = refused(jvm, copy("conv-ort").put("model/conv-ort.ort", b"not a model"))
    assert error.kind == "provider-unavailable"
    assert "model/conv-ort.ort" in error.message


def test_session_config_reaches_the_runtime(jvm: Jvm, copy: Copy) -> None:
    """With the CPU forbidden as a fallback, and nothing else there, ONNX Runtime has to refuse."""
    config = {"session.disable_cpu_ep_fallback": "1"}
    error = refused(jvm, copy("conv-onnx").edit(set_at("runtime.session.config", config)))
    assert error.kind == "provider-unavailable"
    assert "fallback to CPU EP has been explicitly disabled" in error.message


def test_an_unknown_config_entry_is_ignored_by_the_runtime(jvm: Jvm, copy: Copy) -> None:
    config = {"session.no_such_entry": "1"}
    assert jvm.self_test(copy("conv-ort").edit(set_at("runtime.session.config", config)))["passed"]


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
def test_every_optimization_level_opens(jvm: Jvm, copy: Copy, level: str) -> None:
    change = set_at("runtime.session.graph_optimization_level", level)
    assert jvm.self_test(copy("conv-onnx").edit(change))["passed"]
