"""Two models side by side: `edgepack.diff`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import edgepack
from edgepack.artifact import ModelFile
from edgepack.errors import DataError, ModelError, ShapeError
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.passes.ort_format import OrtFormat
from tests.divergence.networks import broken, renamed, residual_net, samples
from tests.models import (
    FLOAT,
    INT64,
    free_size_model,
    model,
    run_step,
    two_input_model,
    value,
    wrap,
    write,
)


@pytest.fixture
def start(tmp_path: Path) -> ModelFile:
    return wrap(residual_net(), tmp_path, "float")


def test_a_model_is_identical_to_itself(start: ModelFile) -> None:
    result = edgepack.diff(start.path, start.path)
    assert len(result.layers) == len(onnx.load(start.path).graph.node)
    assert all(x.identical for x in result.layers)
    assert result.first is None


@pytest.mark.parametrize("rename", [False, True])
@pytest.mark.parametrize("layer", ["stem/conv", "block_0/depthwise", "block_2/project"])
def test_a_broken_layer_is_the_first_divergence(
    start: ModelFile, tmp_path: Path, layer: str, rename: bool
) -> None:
    proto = broken(residual_net(), f"net/{layer}.w")
    other = wrap(renamed(proto)[0] if rename else proto, tmp_path, "other")
    result = edgepack.diff(start.path, other.path)
    assert result.first is not None
    assert result.first.node == f"net/{layer}"
    assert Counter(x.matched for x in result.layers) == (
        {"structure": 23, "name": 1} if rename else {"name": 24}
    )
    before = result.layers[: result.layers.index(result.first)]
    assert all(x.identical for x in before)
    assert result.only_a == result.only_b == ()


@pytest.mark.parametrize("form", ["qdq", "fixed", "runtime"])
def test_a_broken_layer_is_found_through_quantization(
    start: ModelFile, tmp_path: Path, form: str
) -> None:
    def made(proto: onnx.ModelProto, name: str) -> Path:
        quantized = run_step(Int8(), wrap(proto, tmp_path, name), tmp_path, samples()).model
        if form == "qdq":
            return quantized.path
        return run_step(OrtFormat(style=form), quantized, tmp_path).model.path

    sound = edgepack.diff(start.path, made(residual_net(), "sound"))
    assert sound.sqnr_below_db == 20
    assert sound.first is None
    ruined = edgepack.diff(
        start.path, made(broken(residual_net(), "net/block_1/depthwise.w", 2), "ruined")
    )
    assert ruined.first is not None
    assert ruined.first.tensor in ("net/block_1/depthwise", "net/block_1/depthwise_relu")
    assert ruined.first.sqnr_db < 5


def test_the_threshold_is_that_of_the_coarser_model(start: ModelFile, tmp_path: Path) -> None:
    half = run_step(Float16(), start, tmp_path).model
    result = edgepack.diff(start.path, half.path)
    assert result.sqnr_below_db == 40
    assert result.first is None
    assert edgepack.diff(half.path, start.path).sqnr_below_db == 40
    asked = edgepack.diff(start.path, half.path, sqnr_below=90)
    assert asked.first is not None
    assert asked.because == "as asked"


def test_layers_come_in_topological_order_with_their_numbers(
    start: ModelFile, tmp_path: Path
) -> None:
    quantized = run_step(Int8(), start, tmp_path, samples()).model
    result = edgepack.diff(start.path, quantized.path)
    order = {n.output[0]: i for i, n in enumerate(onnx.load(start.path).graph.node, 1)}
    positions = [order.get(x.tensor, 0) for x in result.layers]
    assert positions == sorted(positions) == [x.position for x in result.layers]
    last = result.layers[-1]
    assert last.outputs == ("probabilities",)
    assert result.inputs == "seeded noise"
    feeds = [np.random.default_rng(20_240_229).random((3, 1, 3, 16, 16)).astype(np.float32)]
    assert result.feeds == feeds[0].shape[0]
    assert result.worst is min(result.layers, key=lambda x: x.sqnr_db)


def test_as_json_has_no_infinity(start: ModelFile) -> None:
    data = edgepack.diff(start.path, start.path).as_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["layers"][0]["sqnr_db"] is None
    assert data["layers"][0]["identical"] is True


def test_the_inputs_given_are_those_that_are_used(tmp_path: Path) -> None:
    """|x| against x: the same for what is positive."""

    def one(operator: str) -> Path:
        nodes = [
            helper.make_node(operator, ["x"], ["inner"]),
            helper.make_node("Sin", ["inner"], ["y"]),
        ]
        proto = model(nodes, [value("x", FLOAT, ["n", 4])], [value("y", FLOAT, ["n", 4])])
        return write(proto, tmp_path / f"{operator}.onnx")

    a, b = one("Abs"), one("Relu")
    assert edgepack.diff(a, b).worst.identical
    below = -np.ones((5, 4), np.float32)
    result = edgepack.diff(a, b, inputs={"x": below})
    assert result.first is not None
    assert (result.feeds, result.inputs) == (3, "inputs given")
    np.savez(tmp_path / "x.npz", x=below)
    assert edgepack.diff(a, b, inputs=tmp_path / "x.npz").first is not None
    assert edgepack.diff(a, b, batch=2).layers[0].shape == (2, 4)


def test_free_dimensions_take_the_others_sizes(tmp_path: Path) -> None:
    free = write(free_size_model(), tmp_path / "free.onnx")
    proto = free_size_model()
    sizes = (2, 5, 7, 3)
    for dim, size in zip(proto.graph.input[0].type.tensor_type.shape.dim, sizes, strict=True):
        dim.dim_value = size
    fixed = write(proto, tmp_path / "fixed.onnx")
    for a, b in ((free, fixed), (fixed, free)):
        assert edgepack.diff(a, b).layers[0].shape == sizes
    assert edgepack.diff(free, free, shapes={"image": (1, 9, 8, 3)}).layers[0].shape == (1, 9, 8, 3)


def test_models_of_several_inputs_are_compared(tmp_path: Path) -> None:
    path = write(two_input_model(), tmp_path / "two.onnx")
    assert [x.tensor for x in edgepack.diff(path, path).layers] == ["float_right", "total", "count"]


def test_a_bundle_is_compared_on_its_golden_inputs(tmp_path: Path) -> None:
    source = write(residual_net(), tmp_path / "net.onnx")
    (built,) = edgepack.build(
        source,
        targets=["android"],
        output_dir=tmp_path / "dist",
        calibration={"image": samples(16)},
        precision="int8",
    )
    result = edgepack.diff(source, built.bundle)
    assert result.inputs == f"golden inputs of {built.bundle}"
    assert result.first is None
    assert {"net/block_1/add", "probabilities"} <= {x.tensor for x in result.layers}
    assert edgepack.diff(built.bundle, built.bundle).worst.identical
    noise = edgepack.diff(source, built.bundle, batch=1)
    assert noise.inputs == "seeded noise"


# Edges that differ


def other_edges(tmp_path: Path, **changes: object) -> Path:
    given = {"x": "x", "y": "y", "dtype": FLOAT, "shape": [1, 4], **changes}
    nodes = [helper.make_node("Identity", [given["x"]], [given["y"]])]
    edges = [
        [value(given[n], given["dtype"], given["shape"])]  # type: ignore[index, arg-type]
        for n in ("x", "y")
    ]
    return write(model(nodes, *edges), tmp_path / f"{len(list(tmp_path.iterdir()))}.onnx")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"x": "image"}, ModelError, ("inputs differ by name", "'image'", "'x'")),
        ({"y": "probs"}, ModelError, ("outputs differ by name", "'probs'")),
        ({"shape": [1, 5]}, ShapeError, ("differ by shape", "[1, 4]", "[1, 5]")),
        ({"shape": [4]}, ShapeError, ("differ by shape",)),
        ({"dtype": INT64}, ModelError, ("differ by type", "int64")),
    ],
)
def test_edges_that_differ_are_an_error_that_names_them(
    tmp_path: Path, changes: dict[str, object], error: type[Exception], words: tuple[str, ...]
) -> None:
    with pytest.raises(error) as raised:
        edgepack.diff(other_edges(tmp_path), other_edges(tmp_path, **changes))
    assert all(w in str(raised.value) for w in words)


def test_inputs_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    path = other_edges(tmp_path)
    with pytest.raises(DataError, match="expected"):
        edgepack.diff(path, path, inputs={"x": np.zeros((3, 9), np.float32)})
    with pytest.raises(DataError, match=r"inputs .*none\.npz: no such file"):
        edgepack.diff(path, path, inputs=tmp_path / "none.npz")


def test_a_damaged_ort_file_is_an_error(start: ModelFile, tmp_path: Path) -> None:
    data = run_step(OrtFormat(), start, tmp_path).model.path.read_bytes()
    path = tmp_path / "cut.ort"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="cut off or damaged"):
        edgepack.diff(start.path, path)


def test_nothing_is_left_in_the_folder(start: ModelFile, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    edgepack.diff(start.path, start.path)
    assert sorted(tmp_path.rglob("*")) == before
