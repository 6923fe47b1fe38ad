"""ONNX as the source."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import edgepack
from edgepack.errors import ModelError
from edgepack.intake.source import open_source
from tests.models import FLOAT, conv_model, images, model, two_input_model, value, write


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_source(path, path.parent)
    assert str(path) in caught.value.cause
    return str(caught.value)


def with_external_data(folder: Path, location: str) -> Path:
    """A model whose Gemm weights lie in the file `location`."""
    proto = conv_model()
    write(proto, folder / "whole.onnx")
    onnx.save(
        proto,
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=100,
    )
    if location != "weights.bin":
        proto = onnx.load(folder / "model.onnx", load_external_data=False)
        for initializer in proto.graph.initializer:
            for entry in initializer.external_data:
                if entry.key == "location":
                    entry.value = location
        write(proto, folder / "model.onnx")
    return folder / "model.onnx"


def test_it_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    source = open_source(write(two_input_model(), tmp_path / "m.onnx"), tmp_path)
    assert list(map(str, source.inputs)) == [
        "left: float32 [batch, length]",
        "right: int64 [batch, length]",
    ]
    assert list(map(str, source.outputs)) == ["total: float32 [batch, length]", "count: float32 []"]
    assert source.framework.startswith("onnxruntime ")


def test_nameless_free_dimensions_get_names(tmp_path: Path) -> None:
    proto = conv_model()
    for edge in (proto.graph.input[0], proto.graph.output[0]):
        edge.type.tensor_type.shape.dim[0].Clear()
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    assert source.inputs[0].shape == ("batch", 8, 8, 1)
    assert source.outputs[0].shape == ("batch", 10)


def test_an_initializer_that_is_listed_as_input_is_none(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.input.append(value("bias", FLOAT, [10]))
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    assert [s.name for s in source.inputs] == ["image"]


def test_conversion_keeps_the_answers_and_drops_who_made_it(tmp_path: Path) -> None:
    proto = conv_model()
    proto.producer_name, proto.doc_string = "somebody", "at /home/somebody"
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    made, said = source.convert(tmp_path / "made.onnx")
    assert said == ()
    assert b"somebody" not in made.path.read_bytes()
    feeds = [{"image": images(2)}]
    again = open_source(made.path, tmp_path)
    ours, theirs = again.answer(feeds)[0], source.answer(feeds)[0]
    assert np.array_equal(ours["probabilities"], theirs["probabilities"])


def test_a_file_cut_at_any_place_is_refused(tmp_path: Path) -> None:
    data = write(conv_model(), tmp_path / "m.onnx").read_bytes()
    for length in range(1, len(data), len(data) // 20):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        refusal(tmp_path / "cut.onnx")


def test_a_graph_that_does_not_hang_together_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["nowhere"], ["y"])]
    bad = model(nodes, [value("x", FLOAT, [1])], [value("y", FLOAT, [1])])
    assert "nowhere" in refusal(write(bad, tmp_path / "bad.onnx"))


def test_a_model_without_inputs_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value_float=1.0)]
    proto = model(nodes, [], [value("y", FLOAT, [])])
    assert "no inputs" in refusal(write(proto, tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("dtype", "called"),
    [
        (onnx.TensorProto.STRING, "STRING"),
        (onnx.TensorProto.COMPLEX64, "COMPLEX64"),
        (onnx.TensorProto.BFLOAT16, "BFLOAT16"),
    ],
)
def test_a_dtype_without_raw_form_is_refused_by_name(
    tmp_path: Path, dtype: int, called: str
) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    proto = model(nodes, [value("x", dtype, [1])], [value("y", dtype, [1])])
    with pytest.raises(ModelError, match=f"x is of type {called}"):
        open_source(write(proto, tmp_path / "m.onnx"), tmp_path)


def test_an_input_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, [1])
    nodes = [helper.make_node("SequenceLength", ["x"], ["y"])]
    proto = model(nodes, [sequence], [value("y", onnx.TensorProto.INT64, [])])
    with pytest.raises(ModelError, match="x is a sequence_type"):
        open_source(write(proto, tmp_path / "m.onnx"), tmp_path)


def test_an_input_of_unknown_rank_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    proto = model(nodes, [value("x", FLOAT, None)], [value("y", FLOAT, None)])
    assert "shape" in refusal(write(proto, tmp_path / "m.onnx"))


def test_external_data_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, "weights.bin")
    source = open_source(path, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    made, _ = source.convert(tmp_path / "elsewhere" / "made.onnx")
    (tmp_path / "weights.bin").unlink()
    whole = open_source(tmp_path / "whole.onnx", tmp_path)
    feeds = [{"image": images(2)}]
    again = open_source(made.path, tmp_path)
    assert np.array_equal(
        again.answer(feeds)[0]["probabilities"], whole.answer(feeds)[0]["probabilities"]
    )


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "none.bin"])
def test_external_data_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "inside").mkdir()
    path = with_external_data(tmp_path / "inside", location)
    (tmp_path / "inside" / "weights.bin").rename(tmp_path / "weights.bin")
    refusal(path)


def test_external_data_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = with_external_data(tmp_path / "inside", "weights.bin")
    (tmp_path / "inside" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "inside" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    refusal(path)


def test_external_data_are_part_of_the_models_digest_and_size(tmp_path: Path) -> None:
    seen = []
    for factor in (1, 2):
        folder = tmp_path / str(factor)
        folder.mkdir()
        path = with_external_data(folder, "weights.bin")
        weights = np.frombuffer((folder / "weights.bin").read_bytes(), np.float32) * factor
        (folder / "weights.bin").write_bytes(weights.tobytes())
        data = edgepack.inspect(path)
        assert data["size"] == path.stat().st_size + weights.nbytes
        seen.append((path.read_bytes(), data["sha256"]))
    (first, first_digest), (second, second_digest) = seen
    assert first == second
    assert first_digest != second_digest
