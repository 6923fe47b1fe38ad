"""What the finished graph of each family looks like, and a target of the user's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import edgepack
from edgepack import onnxfile
from edgepack.errors import ShapeError
from edgepack.prove.engine import open_session
from edgepack.targets import list_targets
from tests.models import conv_model, free_size_model, images, write
from tests.targets.conftest import Profile

BOARDS = [
    p.name for p in list_targets() if p.runtime.providers[0].name == "TensorrtExecutionProvider"
]
PHONES = [p.name for p in list_targets() if p.runtime.language in ("kotlin", "swift")]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Bundle by (target, precision): every target in every precision."""
    folder = tmp_path_factory.mktemp("legality")
    source = write(conv_model(), folder / "tiny.onnx")
    bundles = {}
    for precision in ("fp32", "fp16", "int8"):
        results = edgepack.build(
            source,
            targets=list_targets(),
            output_dir=folder / precision,
            precision=precision,
            calibration=images(20),
        )
        bundles.update({(r.target, precision): r.bundle for r in results})
    return bundles


def graph_of(bundle: Path) -> onnx.ModelProto:
    return onnx.load(bundle / edgepack.load_manifest(bundle).model.path)


def test_every_target_builds_in_every_precision(built: dict[tuple[str, str], Path]) -> None:
    assert len(built) == 3 * len(list_targets()) >= 30
    for (target, precision), bundle in built.items():
        manifest = edgepack.load_manifest(bundle)
        assert (manifest.target.name, manifest.model.precision) == (target, precision)


@pytest.mark.parametrize("target", BOARDS)
def test_tensorrt_gets_signed_zero_points_that_are_all_zero(
    built: dict[tuple[str, str], Path], target: str
) -> None:
    graph = graph_of(built[target, "int8"]).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 4
    for node in pairs:
        zero_point = values[node.input[2]]
        assert zero_point.dtype == np.int8
        assert not zero_point.any()


@pytest.mark.parametrize("target", BOARDS)
def test_tensorrt_gets_no_integer_biases(built: dict[tuple[str, str], Path], target: str) -> None:
    graph = graph_of(built[target, "int8"]).graph
    assert TensorProto.INT32 not in {i.data_type for i in graph.initializer}
    weights = {i.name: i.data_type for i in graph.initializer}
    biases = [n.input[2] for n in graph.node if n.op_type in ("Conv", "Gemm")]
    assert len(biases) == 2
    assert {weights[b] for b in biases} == {TensorProto.FLOAT}


@pytest.mark.parametrize("target", BOARDS)
def test_tensorrt_gets_weights_in_float_with_a_pair_of_their_own(
    built: dict[tuple[str, str], Path], target: str
) -> None:
    graph = graph_of(built[target, "int8"]).graph
    made_by = {name: node for node in graph.node for name in node.output}
    weights = {i.name: i.data_type for i in graph.initializer}
    convolution = next(n for n in graph.node if n.op_type == "Conv")
    dequantize = made_by[convolution.input[1]]
    assert dequantize.op_type == "DequantizeLinear"
    quantize = made_by[dequantize.input[0]]
    assert quantize.op_type == "QuantizeLinear"
    assert weights[quantize.input[0]] == TensorProto.FLOAT


@pytest.mark.parametrize("target", BOARDS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_boards_get_standard_onnx_of_an_opset_and_version_that_old_jetpacks_read(
    built: dict[tuple[str, str], Path], target: str, precision: str
) -> None:
    proto = graph_of(built[target, precision])
    assert onnxfile.node_domains(proto) <= set(onnxfile.ONNX_DOMAINS)
    assert onnxfile.opset(proto) == 17
    # IR version 8 is what ONNX Runtime 1.12 knows.
    assert proto.ir_version <= 8


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_webgpu_gets_plain_onnx(built: dict[tuple[str, str], Path], precision: str) -> None:
    bundle = built["web-webgpu", precision]
    assert [p.suffix for p in (bundle / "model").iterdir()] == [".onnx"]
    assert onnxfile.node_domains(graph_of(bundle)) <= set(onnxfile.ONNX_DOMAINS)


@pytest.mark.parametrize("target", [*PHONES, "web"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_phones_and_wasm_get_one_ort_file(
    built: dict[tuple[str, str], Path], target: str, precision: str
) -> None:
    (model,) = (built[target, precision] / "model").iterdir()
    if (target, precision) == ("android-nnapi", "int8"):
        # NNAPI looks for Q/DQ pairs, which only the plain graph keeps for every runtime version.
        assert model.suffix == ".onnx"
        return
    assert model.suffix == ".ort"
    assert model.read_bytes()[4:8] == b"ORTM"


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_coreml_finds_the_key_under_which_it_keeps_what_it_compiled(
    built: dict[tuple[str, str], Path], precision: str
) -> None:
    bundle = built["ios", precision]
    manifest = edgepack.load_manifest(bundle)
    steps = {s.step: s for s in manifest.build.steps}
    metadata = open_session(bundle / manifest.model.path).get_modelmeta().custom_metadata_map
    assert metadata["COREML_CACHE_KEY"] == steps["cache_key"].facts["key"]


def test_nnapi_gets_unsigned_activations_and_others_signed(
    built: dict[tuple[str, str], Path],
) -> None:
    for target, kind in (("android-nnapi", "uint8"), ("android", "int8"), ("ios-cpu", "int8")):
        steps = edgepack.load_manifest(built[target, "int8"]).build.steps
        options = next(s.options for s in steps if s.step == "int8")
        assert options["activations"] == options["weights"] == kind


@pytest.mark.parametrize("target", [*BOARDS, *PHONES, "web-webgpu"])
def test_static_targets_refuse_a_free_dimension(tmp_path: Path, target: str) -> None:
    source = write(free_size_model(), tmp_path / "m.onnx")
    with pytest.raises(ShapeError, match=r"axis 1 \(height\), axis 2 \(width\)"):
        edgepack.build(source, targets=[target], output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_wasm_takes_a_free_dimension(tmp_path: Path) -> None:
    source = write(free_size_model(), tmp_path / "m.onnx")
    (result,) = edgepack.build(source, targets=["web"], output_dir=tmp_path / "out")
    (image,) = edgepack.load_manifest(result.bundle).inputs
    assert image.shape == (1, "height", "width", 3)
    x = np.ones((1, 5, 7, 3), np.float32)
    assert edgepack.run(result.bundle, {"image": x})["mean"].tolist() == [[1.0, 1.0, 1.0]]


def test_a_users_own_profile_works_like_a_shipped_one(tmp_path: Path, profile: Profile) -> None:
    path = profile(
        "extends: ios-cpu",
        "title: My kiosk",
        "static_shapes: false",
        "runtime: {version: 9.8.7, session: {config: {mine: '1'}}}",
        "requires: {kiosk: '>=2'}",
        "precisions: {fp32: {steps: []}}",
        name="my-kiosk",
    )
    source = write(conv_model(), tmp_path / "m.onnx")
    (result,) = edgepack.build(source, targets=[str(path)], output_dir=tmp_path / "out")
    manifest = edgepack.load_manifest(result.bundle)
    assert result.bundle.name == "m-my-kiosk"
    assert manifest.target.name == "my-kiosk"
    assert manifest.target.requires == {"arch": "arm64", "ios": ">=15.1", "kiosk": ">=2"}
    assert manifest.runtime.version == "9.8.7"
    assert manifest.runtime.session.config["mine"] == "1"
    assert manifest.model.format == "onnx"
