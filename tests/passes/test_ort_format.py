"""ORT format, and the same bytes in every run."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.ortfile import read
from edgepack.passes.int8 import Int8
from edgepack.passes.ort_bytes import canonical, write_canonical
from edgepack.passes.ort_format import OrtFormat, write_ort
from edgepack.passes.simplify import Simplify
from tests.legality.graphs import residual_model
from tests.models import answers_of, conv_model, images, run_step, wrap

STYLES = ("fixed", "runtime")


def values(constant: onnx.TensorProto) -> list[float]:
    """Sorted: an engine's layout is its own."""
    return sorted(numpy_helper.to_array(constant).ravel().tolist())


@pytest.fixture
def start(tmp_path: Path) -> ModelFile:
    return run_step(Simplify(), wrap(conv_model(batch=1), tmp_path), tmp_path).model


@pytest.mark.parametrize("style", STYLES)
def test_the_answers_and_edges_stay(start: ModelFile, tmp_path: Path, style: str) -> None:
    result = run_step(OrtFormat(style=style), start, tmp_path)
    made = result.model
    assert (made.format, made.path.suffix) == (Format.ORT, ".ort")
    assert (made.inputs, made.outputs, made.opset) == (start.inputs, start.outputs, 17)
    assert result.facts["style"] == style
    before, after = (answers_of(m, image=images(1))["probabilities"] for m in (start, made))
    assert np.allclose(before, after, atol=1e-6)


def test_the_styles_differ(start: ModelFile, tmp_path: Path) -> None:
    made = {run_step(OrtFormat(style=s), start, tmp_path).model.sha256 for s in STYLES}
    assert len(made) == 2


@pytest.mark.parametrize("style", STYLES)
def test_the_same_model_gives_the_same_bytes_in_every_process(
    start: ModelFile, tmp_path: Path, style: str
) -> None:
    script = (
        "import sys; from pathlib import Path; import onnx; from edgepack import onnxfile;"
        "from edgepack.passes.ort_format import OrtFormat; from tests.models import run_step;"
        "path, style = Path(sys.argv[1]), sys.argv[2];"
        "start = onnxfile.wrap(onnx.load(path), path);"
        "print(run_step(OrtFormat(style=style), start, Path(sys.argv[3])).model.sha256)"
    )
    here = {run_step(OrtFormat(style=style), start, tmp_path).model.sha256 for _ in range(3)}
    (tmp_path / "other").mkdir()
    other = subprocess.run(
        [sys.executable, "-c", script, str(start.path), style, str(tmp_path / "other")],
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert here == {other.stdout.strip()}


@pytest.mark.parametrize("style", STYLES)
def test_canonical_bytes_are_canonical(start: ModelFile, tmp_path: Path, style: str) -> None:
    data = run_step(OrtFormat(style=style), start, tmp_path).model.path.read_bytes()
    assert data[4:8] == b"ORTM"
    assert canonical(data) == data


def test_canonical_keeps_the_table_it_sorts(start: ModelFile, tmp_path: Path) -> None:
    from ort_flatbuffers_py import fbs

    def table(data: bytes) -> dict[str, int]:
        session = fbs.InferenceSession.InferenceSession.GetRootAs(data, 0)
        resolver = session.KernelTypeStrResolver()
        entries = [
            resolver.OpKernelTypeStrArgs(i) for i in range(resolver.OpKernelTypeStrArgsLength())
        ]
        return {e.OpId().decode(): e.KernelTypeStrArgsLength() for e in entries}

    write_ort(start, tmp_path / "raw.ort", style="fixed")
    raw = (tmp_path / "raw.ort").read_bytes()
    assert len(table(raw)) >= 2
    assert table(canonical(raw)) == table(raw)
    assert list(table(canonical(raw))) == sorted(table(raw))


@pytest.mark.parametrize("style", STYLES)
def test_a_node_left_in_float_between_integers_stays_in_float(tmp_path: Path, style: str) -> None:
    """onnxruntime would give it integer weights, and writes a Runtime-style file of that which it cannot open."""
    data = np.random.default_rng(1).random((8, 3, 16, 16)).astype(np.float32)
    plain = wrap(residual_model(), tmp_path)
    quantized = run_step(Int8(float_nodes=("project",)), plain, tmp_path, calibration=data).model
    made = run_step(OrtFormat(style=style), quantized, tmp_path).model
    (weight,) = [i for i in residual_model().graph.initializer if i.name == "w3"]
    assert values(weight) in [values(i) for i in read(made.path).graph.initializer]


@pytest.mark.parametrize("style", STYLES)
def test_the_bytes_are_those_of_onnxruntimes_own_converter(
    start: ModelFile, tmp_path: Path, style: str
) -> None:
    from onnxruntime.tools.convert_onnx_models_to_ort import (
        OptimizationStyle,
        convert_onnx_models_to_ort,
    )

    data = images(8)
    quantized = run_step(Int8(), start, tmp_path, calibration=data).model
    for number, model in enumerate((start, quantized)):
        theirs = tmp_path / f"theirs-{number}"
        with warnings.catch_warnings():
            # It leaves files to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            convert_onnx_models_to_ort(
                model.path,
                output_dir=theirs,
                optimization_styles=[OptimizationStyle[style.capitalize()]],
                target_platform="arm",
            )
        (written,) = theirs.glob("*.ort")
        ours = run_step(OrtFormat(style=style), model, tmp_path).model
        write_canonical(written, tmp_path / "theirs.ort")
        assert (tmp_path / "theirs.ort").read_bytes() == ours.path.read_bytes(), number


def test_nothing_is_printed(
    start: ModelFile, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run_step(OrtFormat(), start, tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_graph_the_converter_refuses_is_an_error_with_its_words(
    start: ModelFile, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(start.path.read_bytes()[:-20])
    bad = ModelFile(
        path=broken, format=Format.ONNX, inputs=start.inputs, outputs=start.outputs, opset=17
    )
    with pytest.raises(StepError, match="ORT converter cannot take this graph"):
        run_step(OrtFormat(), bad, tmp_path)


def test_the_bytes_carry_no_path(start: ModelFile, tmp_path: Path) -> None:
    data = run_step(OrtFormat(style="runtime"), start, tmp_path).model.path.read_bytes()
    assert str(tmp_path).encode() not in data
