"""Models that come in float16, or quantized already."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.transformers.float16 import convert_float_to_float16

import edgepack
from edgepack.artifact import ModelFile
from edgepack.errors import StepError
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.passes.simplify import Simplify
from tests.models import conv_model, images, run_step, wrap


@pytest.fixture
def half(tmp_path: Path) -> ModelFile:
    proto = convert_float_to_float16(conv_model(batch=1, features=64), keep_io_types=False)
    return wrap(proto, tmp_path)


@pytest.fixture
def quantized(tmp_path: Path) -> ModelFile:
    start = run_step(Simplify(), wrap(conv_model(batch=1), tmp_path), tmp_path).model
    return run_step(Int8(), start, tmp_path, images(8)).model


@pytest.mark.parametrize("step", [Simplify(), Float16()], ids=lambda s: s.name)
def test_a_float16_model_is_not_touched(
    step: Simplify | Float16, half: ModelFile, tmp_path: Path
) -> None:
    result = run_step(step, half, tmp_path)
    assert not result.changed
    assert result.model is half
    assert "float16" in result.facts["skipped"]


def test_a_float16_model_is_not_quantized(half: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="computes in float16"):
        run_step(Int8(), half, tmp_path, images(8).astype(np.float16))


@pytest.mark.parametrize("target", ["jetson-orin", "ios", "web"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_float16_model_becomes_a_bundle(
    half: ModelFile, target: str, precision: str, tmp_path: Path
) -> None:
    (result,) = edgepack.build(
        half.path, targets=[target], precision=precision, output_dir=tmp_path / "out"
    )
    assert edgepack.verify(result.bundle).passed


def test_a_quantized_model_stays_as_it_is_where_the_target_takes_it(
    quantized: ModelFile, tmp_path: Path
) -> None:
    result = run_step(Int8(), quantized, tmp_path, images(8))
    assert not result.changed
    assert result.facts == {"skipped": "quantized already"}


@pytest.mark.parametrize(
    ("recipe", "said"),
    [(Int8(symmetric=True), "not symmetric"), (Int8(activations="uint8", weights="uint8"), "int8")],
)
def test_a_model_quantized_in_another_way_than_the_targets_is_refused(
    recipe: Int8, said: str, quantized: ModelFile, tmp_path: Path
) -> None:
    with pytest.raises(StepError, match=said):
        run_step(recipe, quantized, tmp_path, images(8))


def test_a_quantized_model_has_no_float16_form(quantized: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(StepError, match="quantized already"):
        run_step(Float16(), quantized, tmp_path)


@pytest.mark.parametrize(("target", "precision"), [("android", "int8"), ("web", "fp32")])
def test_a_quantized_model_becomes_a_bundle(
    quantized: ModelFile, target: str, precision: str, tmp_path: Path
) -> None:
    pairs = sum(n.op_type == "DequantizeLinear" for n in onnx.load(quantized.path).graph.node)
    assert pairs > 0
    (result,) = edgepack.build(
        quantized.path,
        targets=[target],
        precision=precision,
        calibration=images(8),
        output_dir=tmp_path / "out",
    )
    assert edgepack.verify(result.bundle).passed
