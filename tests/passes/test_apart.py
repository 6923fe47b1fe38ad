"""Models beyond one file's 2 GiB, at a few kilobytes: the limit is lowered, the code is the same (see tests/scale)."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import edgepack
from edgepack import onnxfile, weights
from edgepack.artifact import ModelFile
from edgepack.errors import BundleError, OutputError, StepError
from edgepack.passes import ort_format
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.passes.opset import Opset
from edgepack.passes.ort_format import OrtFormat
from edgepack.passes.shapes import Shapes
from edgepack.passes.simplify import Simplify
from edgepack.passes.step import Step
from tests.models import answers_of, conv_model, images, int8_recipe, run_step, wrap, write

TENSORRT = int8_recipe("jetson-orin")
STEPS = (Opset(maximum=16), Shapes(), Simplify(), Float16(), Int8(), TENSORRT)
LIMIT = 4000


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", LIMIT)


def start_in(folder: Path) -> ModelFile:
    folder.mkdir()
    return wrap(conv_model(features=128), folder)


def values_of(path: Path) -> dict[str, np.ndarray]:
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


def both_ways(
    step: Step, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[ModelFile, ModelFile]:
    """What a step makes of a model in one file, and of the same model in two."""
    one = run_step(step, start_in(folder / "one"), folder / "one", images(8)).model
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", LIMIT)
    start = start_in(folder / "two")
    assert start.beside
    return one, run_step(step, start, folder / "two", images(8)).model


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.name)
def test_a_step_gives_the_same_model_from_two_files_as_from_one(
    step: Step, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = both_ways(step, tmp_path, monkeypatch)
    assert (two.inputs, two.outputs, two.opset) == (one.inputs, one.outputs, one.opset)
    assert not one.beside
    ours, theirs = values_of(two.path), values_of(one.path)
    assert sorted(ours) == sorted(theirs)
    for name, x in theirs.items():
        assert ours[name].dtype == x.dtype
        assert np.array_equal(ours[name], x), name
    x = images(1)
    assert np.array_equal(
        answers_of(two, image=x)["probabilities"], answers_of(one, image=x)["probabilities"]
    )


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.name)
@pytest.mark.usefixtures("low_limit")
def test_a_step_leaves_the_two_files_and_nothing_else(step: Step, tmp_path: Path) -> None:
    made = run_step(step, start_in(tmp_path / "in"), tmp_path / "in", images(8)).model
    assert made.beside == (made.path.with_name("model.onnx.data"),)
    assert {*made.path.parent.iterdir()} == {made.path, *made.beside}


@pytest.mark.parametrize("step", STEPS, ids=lambda s: s.name)
@pytest.mark.usefixtures("low_limit")
def test_a_step_gives_the_same_bytes_in_every_folder(step: Step, tmp_path: Path) -> None:
    made = [
        run_step(step, start_in(tmp_path / side), tmp_path / side, images(8)).model
        for side in ("a", "b")
    ]
    assert made[0].sha256 == made[1].sha256
    assert made[0].beside[0].read_bytes() == made[1].beside[0].read_bytes()


@pytest.mark.usefixtures("low_limit")
def test_float16_that_fits_one_file_becomes_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_in(tmp_path / "in")
    size = sum(map(weights.size_bytes, weights.tensors(onnxfile.load(start))))
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", size - 1000)
    made = run_step(Float16(), start, tmp_path / "in").model
    assert made.beside == ()
    assert {*made.path.parent.iterdir()} == {made.path}


@pytest.mark.usefixtures("low_limit")
def test_a_model_in_two_files_becomes_one_ort_file(tmp_path: Path) -> None:
    start = start_in(tmp_path / "in")
    made = run_step(OrtFormat(), start, tmp_path / "in").model
    assert made.beside == ()
    x = images(1)
    before, after = (answers_of(m, image=x)["probabilities"] for m in (start, made))
    assert np.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("style", ["fixed", "runtime"])
def test_more_than_an_ort_file_holds_is_refused_before_the_converter_runs(
    style: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_in(tmp_path / "in")
    monkeypatch.setattr(ort_format, "LIMIT_BYTES", 20_000)
    with pytest.raises(StepError) as caught:
        run_step(OrtFormat(style=style), start, tmp_path / "in")
    total = sum(map(weights.size_bytes, weights.tensors(onnxfile.load(start))))
    assert f"{total:,} bytes" in caught.value.cause
    assert "2 GiB" in caught.value.cause
    assert "fp16 or int8" in caught.value.fix


def test_halved_weights_count_twice_where_the_style_widens_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = start_in(tmp_path / "in")
    half = run_step(Float16(), start, tmp_path / "in").model
    monkeypatch.setattr(ort_format, "LIMIT_BYTES", int(0.9 * start.size_bytes))
    run_step(OrtFormat(style="runtime"), half, tmp_path / "in")
    with pytest.raises(StepError, match="2 GiB"):
        run_step(OrtFormat(style="fixed"), half, tmp_path / "in")


# From end to end


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.usefixtures("low_limit")
def test_a_bundle_carries_both_files_and_proves_itself(precision: str, tmp_path: Path) -> None:
    start = start_in(tmp_path / "in")
    (result,) = edgepack.build(
        start.path,
        targets=["jetson-orin"],
        precision=precision,
        calibration=images(8),
        output_dir=tmp_path / "out",
    )
    manifest = edgepack.load_manifest(result.bundle)
    models = [f for f in manifest.files if f.role == "model"]
    assert [f.path for f in models] == ["model/start.onnx", "model/start.onnx.data"]
    assert result.size_after == sum(f.size for f in models)
    assert manifest.build.source.size == start.size_bytes
    verified = edgepack.verify(result.bundle)
    assert (verified.passed, verified.loader) == (True, "python")
    (data,) = result.bundle.glob("model/*.data")
    changed = bytearray(data.read_bytes())
    changed[-1] ^= 1
    data.write_bytes(changed)
    with pytest.raises(BundleError, match=r"start\.onnx\.data"):
        edgepack.verify(result.bundle)
    with pytest.raises(BundleError, match=r"start\.onnx\.data has SHA-256"):
        edgepack.run(result.bundle, {"image": images(1)})


@pytest.mark.usefixtures("low_limit")
def test_the_builds_of_two_folders_are_the_same(tmp_path: Path) -> None:
    content = []
    for side in ("a", "b"):
        start = start_in(tmp_path / side)
        (result,) = edgepack.build(
            start.path, targets=["jetson-orin"], output_dir=tmp_path / side / "out"
        )
        files = sorted(p for p in result.bundle.rglob("*") if p.is_file())
        content.append({p.relative_to(result.bundle): p.read_bytes() for p in files})
    assert content[0] == content[1]


@pytest.mark.parametrize(
    ("target", "precision", "language"),
    [("web-webgpu", "fp32", "javascript"), ("android-nnapi", "int8", "kotlin")],
)
@pytest.mark.usefixtures("low_limit")
def test_a_loader_that_opens_one_file_is_not_given_two(
    target: str, precision: str, language: str, tmp_path: Path
) -> None:
    start = start_in(tmp_path / "in")
    with pytest.raises(StepError, match=f"the {language} loader opens one file"):
        edgepack.build(
            start.path,
            targets=[target],
            precision=precision,
            calibration=images(8),
            output_dir=tmp_path / "out",
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("batch", [None, 2])
@pytest.mark.usefixtures("low_limit")
def test_conversion_writes_both_files_where_it_was_asked_to(
    batch: int | None, tmp_path: Path
) -> None:
    start = start_in(tmp_path / "in")
    out = tmp_path / "out" / "made.onnx"
    result = edgepack.convert(start.path, out, batch=batch)
    assert {p.name for p in out.parent.iterdir()} == {"made.onnx", "made.onnx.data"}
    assert result.model.beside == (out.with_name("made.onnx.data"),)
    assert result.model.size_bytes == sum(p.stat().st_size for p in out.parent.iterdir())
    shutil.rmtree(start.path.parent)
    assert answers_of(result.model, image=images(2))["probabilities"].shape == (2, 10)


@pytest.mark.usefixtures("low_limit")
def test_conversion_replaces_a_second_file_only_if_asked_to(tmp_path: Path) -> None:
    start = start_in(tmp_path / "in")
    out = tmp_path / "out" / "made.onnx"
    out.parent.mkdir()
    out.with_name("made.onnx.data").write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"made\.onnx\.data"):
        edgepack.convert(start.path, out)
    assert {p.name: p.read_bytes() for p in out.parent.iterdir()} == {"made.onnx.data": b"mine"}
    edgepack.convert(start.path, out, overwrite=True)
    assert out.with_name("made.onnx.data").stat().st_size > LIMIT


@pytest.mark.usefixtures("low_limit")
def test_inspecting_counts_parameters_of_both(tmp_path: Path) -> None:
    path = write(conv_model(features=128), tmp_path / "one.onnx")
    start = start_in(tmp_path / "in")
    one, two = edgepack.inspect(path), edgepack.inspect(start.path)
    assert one["parameters"] == two["parameters"]
    assert one["operators"] == two["operators"]
    assert two["size"] == start.size_bytes
