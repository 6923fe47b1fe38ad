"""The JavaScript loader in Chromium: threads, content security policy, WebGPU."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import ROOT
from tests.device.javascript.browser import INSECURE_HOST, browser_run, browser_self_test, visit
from tests.device.javascript.conftest import Bundle

GPU, CPU = "WebGpuExecutionProvider", "CPUExecutionProvider"


def _image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(1, 8, 8, 1)).astype(np.float32)


def _python(bundle, inputs):
    model = next((bundle / "model").iterdir())
    session = onnxruntime.InferenceSession(model, providers=[CPU])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def test_answers_are_those_of_python(conv):
    inputs = {"image": _image()}
    answers, expected = browser_run(conv.root, inputs), _python(conv.root, inputs)
    assert answers.keys() == expected.keys()
    np.testing.assert_allclose(
        answers["probabilities"], expected["probabilities"], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("isolated", [True, False], ids=["isolated", "not-isolated"])
def test_sample_passes_in_chromium(conv, isolated):
    outcome = browser_self_test(conv.root, isolated)
    assert outcome["passed"], outcome
    report = outcome["report"]
    assert (report["isolated"], report["provider"], report["proven"]) == (isolated, CPU, True)


def test_every_dtype_travels_there_and_back(multi):
    rng = np.random.default_rng(3)
    inputs = {
        "f16": rng.normal(size=(4, 3)).astype(np.float16),
        "f32": rng.normal(size=(4, 3)).astype(np.float32),
        "i8": rng.integers(-128, 127, (4, 3), np.int8),
        "u8": rng.integers(0, 255, (4, 3), np.uint8),
        "i32": rng.integers(-(2**31), 2**31, (4, 3), np.int32),
        "i64": rng.integers(-(2**63), 2**63 - 1, (4, 3), np.int64),
        "b": rng.random((4, 3)) < 0.5,
        "scalar/odd name:0": np.array(0.25, np.float32),
    }
    seen, expected = visit(multi.root, [inputs]), _python(multi.root, inputs)
    assert seen.outcome["passed"], seen.outcome
    assert seen.answers[0].keys() == expected.keys()
    for name, y in expected.items():
        assert seen.answers[0][name].dtype == y.dtype
        np.testing.assert_array_equal(seen.answers[0][name], y)


def test_isolated_page_has_the_threads_asked_for(conv):
    seen = visit(conv.root, threads=2)
    assert (seen.outcome["passed"], seen.outcome["report"]["threads"]) == (True, 2)
    assert seen.console == []


def test_page_that_is_not_isolated_has_one_thread_and_one_line_to_say_so(conv):
    seen = visit(conv.root, isolated=False, threads=2)
    assert (seen.outcome["passed"], seen.outcome["report"]["threads"]) == (True, 1)
    assert len(seen.console) == 1, seen.console
    assert seen.console[0].startswith("edgepack: one thread: the page is not cross-origin isolated")


def test_one_thread_that_was_asked_for_needs_no_line(conv):
    assert visit(conv.root, isolated=False, threads=1).console == []


def test_page_without_crypto_is_told_what_it_lacks(conv):
    error = visit(conv.root, host=INSECURE_HOST).outcome["error"]
    assert error["kind"] == "file-corrupt"
    assert "https: and localhost only" in error["message"]


def test_overlapping_runs_on_webgpu_end_and_do_not_mix(copy):
    bundle = copy("conv-onnx").providers(GPU)
    feeds = [{"image": _image(seed)} for seed in range(4)]
    seen = visit(bundle, feeds, build="webgpu")
    for feed, answers in zip(feeds, seen.answers, strict=True):
        expected = _python(bundle, feed)["probabilities"]
        np.testing.assert_allclose(answers["probabilities"], expected, atol=1e-5, rtol=0)
    report = seen.outcome["report"]
    assert (report["provider"], report["proven"], report["passed_over"]) == (GPU, True, {})


def test_pinned_webassembly_of_webgpu_runs_and_no_other_is_taken(copy):
    profile = yaml.safe_load((ROOT / "targets" / "web-webgpu.yaml").read_text())
    bundle = copy("conv-onnx").providers(GPU, CPU)
    Bundle(bundle).change(lambda m: m["runtime"].update(files=profile["runtime"]["files"]))
    options = {"build": "webgpu", "wasm": "/ort/ort-wasm-simd-threaded.asyncify.wasm"}
    outcome = visit(bundle, **options).outcome
    assert (outcome["passed"], outcome["report"]["provider"]) == (True, GPU)
    options["wasm"] = "/ort/ort-wasm-simd-threaded.wasm"
    assert visit(bundle, **options).outcome["error"]["kind"] == "file-corrupt"


def test_model_that_webgpu_takes_in_part_is_not_called_proven(copy):
    outcome = visit(copy("multi-onnx").providers(GPU, CPU), build="webgpu").outcome
    assert outcome["passed"], outcome
    assert (outcome["report"]["provider"], outcome["report"]["proven"]) == (GPU, False)


def test_fixed_ort_file_falls_back_from_webgpu(conv):
    outcome = visit(conv.providers(GPU, CPU), build="webgpu").outcome
    report = outcome["report"]
    assert (outcome["passed"], report["provider"], report["proven"]) == (True, CPU, True)
    assert "com.ms.internal.nhwc:Conv" in report["passed_over"][GPU]


def _quantized() -> bytes:
    """An .ort file that quantizes and dequantizes: onnxruntime-web 1.30.0 opens it on WebGPU and then cannot run it."""
    value = helper.make_tensor_value_info
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["probabilities"]),
            ],
            "quantized",
            [value("image", TensorProto.FLOAT, [1, 8, 8, 1])],
            [value("probabilities", TensorProto.FLOAT, [1, 8, 8, 1])],
            [
                numpy_helper.from_array(np.array(0.01, np.float32), "scale"),
                numpy_helper.from_array(np.array(0, np.int8), "zero"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.save_model_format", "ORT")
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/model.ort"
        onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
        return Path(options.optimized_model_filepath).read_bytes()


def test_model_that_opens_on_webgpu_and_cannot_run_there_falls_back(conv):
    conv.replace("model/conv-ort.ort", _quantized())
    conv.change(lambda m: m.update(golden=[]))
    image = np.full((1, 8, 8, 1), 0.123, np.float32)
    seen = visit(conv.providers(GPU, CPU), [{"image": image}], build="webgpu")
    report = seen.outcome["report"]
    assert report["provider"] == CPU
    assert "failed to call OrtRun()" in report["passed_over"][GPU]
    np.testing.assert_allclose(
        seen.answers[0]["probabilities"], np.full_like(image, 0.12), atol=1e-5
    )


def test_page_without_gpu_falls_back(conv):
    report = visit(conv.providers(GPU, CPU), gpu=False, build="webgpu").outcome["report"]
    assert report["provider"] == CPU
    assert "WebGPU is not supported" in report["passed_over"][GPU]


def test_default_build_is_not_trusted_with_webgpu(copy):
    outcome = visit(copy("conv-onnx").providers(GPU, CPU), build="").outcome
    assert (outcome["passed"], outcome["report"]["provider"]) == (True, CPU)
    assert outcome["report"]["passed_over"] == {
        GPU: "this build is wrong there: import onnxruntime-web/webgpu"
    }
