"""What a bundle answers through the loader: right values, every dtype, from any thread, at little cost."""

from __future__ import annotations

import base64
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.tools.convert_onnx_models_to_ort import (
    OptimizationStyle,
    convert_onnx_models_to_ort,
)

from tests.bundle_samples import conv_model
from tests.device.kotlin.bundles import Bundle, Copy, image, refused, set_at, seven
from tests.device.kotlin.jvm import Jvm, tensors

SAMPLES = ("conv-onnx", "conv-ort", "multi-onnx", "multi-ort")


class Calibration(CalibrationDataReader):
    def __init__(self) -> None:
        self.images = iter([image(seed) for seed in range(8)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.images, None)


@pytest.mark.parametrize("source", ["folder", "bytes", "assets", "compressed assets"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_samples_pass_their_self_test(jvm: Jvm, samples: Path, sample: str, source: str) -> None:
    report = jvm.self_test(samples / sample, source=source)
    assert report["passed"]
    assert len(report["cases"]) == (6 if sample.startswith("conv") else 48)
    assert all(case["passed"] and case["max_abs"] <= case["atol"] for case in report["cases"])
    assert {case["from"] for case in report["cases"]} == {"shipped", "source"}


@pytest.mark.parametrize("sample", ["conv-onnx", "conv-ort"])
def test_answers_are_those_of_onnxruntime_in_python(jvm: Jvm, samples: Path, sample: str) -> None:
    model = next((samples / sample / "model").iterdir())
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, image())
    answer = jvm.run(samples / sample, image())
    np.testing.assert_allclose(answer["probabilities"], expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_every_dtype_comes_back_unchanged(jvm: Jvm, samples: Path, batch: int) -> None:
    inputs = seven(batch)
    outputs = jvm.run(samples / "multi-ort", inputs)
    assert list(outputs) == [*(f"out_{name}" for name in list(inputs)[:-1]), "sum"]
    for name in list(inputs)[:-1]:
        assert outputs[f"out_{name}"].dtype == inputs[name].dtype
        np.testing.assert_array_equal(outputs[f"out_{name}"], inputs[name])
    np.testing.assert_array_equal(outputs["sum"], inputs["f32"] + np.float32(2.5))


@pytest.mark.parametrize(
    ("precision", "style"), [("fp32", "Fixed"), ("fp32", "Runtime"), ("int8", "Fixed")]
)
def test_ort_models_of_the_python_converter_open(
    jvm: Jvm, copy: Copy, tmp_path: Path, precision: str, style: str
) -> None:
    """The converter is newer than the runtime here; the same bytes answer the same in both."""
    source, converted = tmp_path / "source" / "m.onnx", tmp_path / "converted"
    source.parent.mkdir()
    onnx.save(conv_model(), source)
    if precision == "int8":
        quantize_static(source, source, Calibration(), per_channel=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the converter leaves files open
        convert_onnx_models_to_ort(
            source.parent,
            output_dir=converted,
            optimization_styles=[OptimizationStyle[style]],
            target_platform="arm",
        )
    (model,) = converted.glob("*.ort")
    expected = ort.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, image())
    answer = jvm.run(copy("conv-ort").put("model/conv-ort.ort", model.read_bytes()), image())
    np.testing.assert_allclose(answer["probabilities"], expected[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("source", "mapped"),
    [("folder", True), ("assets", True), ("compressed assets", False), ("bytes", False)],
)
def test_what_lies_uncompressed_is_mapped_and_the_rest_is_read(
    jvm: Jvm, copy: Copy, source: str, mapped: bool
) -> None:
    answer = jvm.ask("run", bundle=copy("conv-ort").folder, inputs=tensors(image()), source=source)
    assert answer["mapped"] is mapped


def cast_bundle(bundle: Bundle, given: str, gives: str) -> Path:
    """A bundle of a model that casts `x` to `y`."""
    types = {name: helper.np_dtype_to_tensor_dtype(np.dtype(name)) for name in (given, gives)}
    x, y = (
        helper.make_tensor_value_info(name, types[dtype], [3])
        for name, dtype in (("x", given), ("y", gives))
    )
    cast = helper.make_node("Cast", ["x"], ["y"], to=types[gives])
    model = helper.make_model(
        helper.make_graph([cast], "cast", [x], [y]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    bundle.put(f"model/{bundle.folder.name}.onnx", model.SerializeToString())
    bundle.edit(set_at("inputs", [{"name": "x", "dtype": given, "shape": [3]}]))
    return bundle.edit(set_at("outputs", [{"name": "y", "dtype": gives, "shape": [3]}]))


@pytest.mark.parametrize(
    ("given", "gives"), [("int64", "float64"), ("float64", "int16"), ("int16", "int64")]
)
def test_the_dtypes_the_samples_lack_come_back_too(
    jvm: Jvm, copy: Copy, given: str, gives: str
) -> None:
    folder = cast_bundle(copy("conv-onnx"), given, gives)
    values = np.array([0, 1, -300], given)
    (y,) = jvm.ask("run", bundle=folder, inputs=tensors({"x": values}))["outputs"]
    assert base64.b64decode(y["data"]) == values.astype(gives).tobytes()
    np.testing.assert_array_equal(y["floats"], values.astype(np.float32))


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "uint64"])
def test_a_dtype_that_the_runtimes_java_api_lacks_is_refused_at_once(
    jvm: Jvm, copy: Copy, dtype: str
) -> None:
    """edgepack builds no such bundle: the profile's rule interface_types."""
    error = refused(jvm, cast_bundle(copy("conv-onnx"), given="int64", gives=dtype))
    assert error.kind == "manifest-invalid"
    assert f"is {dtype}" in error.message


def test_floats_decode_every_dtype(jvm: Jvm, samples: Path) -> None:
    inputs = seven(2)
    inputs["f16"].flat = [np.nan, np.inf, -np.inf, -0.1, 65504, 6e-8]
    request = {"bundle": samples / "multi-onnx", "inputs": tensors(inputs)}
    for y in jvm.ask("run", **request)["outputs"][:-1]:
        x = inputs[y["name"].removeprefix("out_")].astype(np.float32)
        np.testing.assert_array_equal(np.array(y["floats"], np.float32), x.ravel())


@pytest.mark.parametrize("made", ["floats", "zeros"])
def test_tensors_are_made_from_floats_or_filled_in_place(
    jvm: Jvm, samples: Path, made: str
) -> None:
    (given,) = tensors(image())
    (answer,) = jvm.ask("run", bundle=samples / "conv-ort", inputs=[given | {"made": made}])[
        "outputs"
    ]
    expected = jvm.run(samples / "conv-ort", image())["probabilities"]
    assert base64.b64decode(answer["data"]) == expected.tobytes()


def test_a_session_serves_many_threads_and_closes_after_the_last_call(
    jvm: Jvm, samples: Path
) -> None:
    answer = jvm.ask("stress", bundle=samples / "multi-ort")
    assert answer == {"passed": True, "after_close": "IllegalStateException"}


def test_telemetry_is_off_before_the_runtime_starts(jvm: Jvm, samples: Path) -> None:
    jvm.self_test(samples / "conv-ort")
    assert jvm.ask("environment") == {"ORT_DISABLE_TELEMETRY": "1"}
