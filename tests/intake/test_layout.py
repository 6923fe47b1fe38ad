"""Image inputs with channels first or last: the same answers to the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import edgepack
from edgepack.artifact import TensorSpec
from edgepack.errors import UsageError
from edgepack.intake.layout import layout_of
from edgepack.intake.request import IntakeRequest, as_layout
from edgepack.intake.source import open_source
from edgepack.prove.engine import answers
from tests.models import FLOAT, conv_model, model, tensors, value


def convert(proto: onnx.ModelProto, folder: Path, layout: str) -> onnx.ModelProto:
    onnx.save(proto, folder / "in.onnx")
    request = IntakeRequest(layout=as_layout(layout))
    edgepack.convert(folder / "in.onnx", folder / f"{layout}.onnx", intake=request)
    return onnx.load(folder / f"{layout}.onnx")


def shape(proto: onnx.ModelProto) -> list[int | str]:
    return [d.dim_param or d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]


def test_a_transpose_that_turned_the_input_goes_away(tmp_path: Path) -> None:
    turned = convert(conv_model(), tmp_path, "nchw")
    assert shape(turned) == ["batch", 1, 8, 8]
    assert "Transpose" not in {n.op_type for n in turned.graph.node}
    image = np.random.default_rng(0).random((2, 8, 8, 1)).astype(np.float32)
    before = answers(tmp_path / "in.onnx", [{"image": image}])
    after = answers(tmp_path / "nchw.onnx", [{"image": image.transpose(0, 3, 1, 2)}])
    assert np.allclose(before[0]["probabilities"], after[0]["probabilities"], atol=1e-6)


def grey_colour_model() -> onnx.ModelProto:
    """`y` = relu(x) if `sign` else −x, where x [1, 3, 4, 5] is read in the branches only, and `z` = x."""
    branches = {
        name: helper.make_graph(
            [helper.make_node(kind, ["x"], [name])], name, [], [value(name, FLOAT, [1, 3, 4, 5])]
        )
        for name, kind in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [helper.make_node("If", ["sign"], ["y"], "if", **branches)]
    edges = [value("x", FLOAT, [1, 3, 4, 5])], [value("y", FLOAT, [1, 3, 4, 5])]
    return model(nodes, *edges, tensors({"sign": np.bool_(False)}))


def test_an_input_that_only_a_branch_reads_is_turned_for_it(tmp_path: Path) -> None:
    turned = convert(grey_colour_model(), tmp_path, "nhwc")
    assert shape(turned) == [1, 4, 5, 3]
    image = np.random.default_rng(0).random((1, 4, 5, 3)).astype(np.float32)
    after = answers(tmp_path / "nhwc.onnx", [{"x": image}])
    assert np.array_equal(after[0]["y"], -image.transpose(0, 3, 1, 2))


def test_the_layout_a_model_has_is_left_alone(tmp_path: Path) -> None:
    plain, asked = tmp_path / "plain", tmp_path / "asked"
    plain.mkdir()
    asked.mkdir()
    onnx.save(grey_colour_model(), plain / "in.onnx")
    edgepack.convert(plain / "in.onnx", plain / "out.onnx")
    convert(grey_colour_model(), asked, "nchw")
    assert (plain / "out.onnx").read_bytes() == (asked / "nchw.onnx").read_bytes()


def test_a_model_without_an_image_is_told(tmp_path: Path) -> None:
    proto = model(
        [helper.make_node("Relu", ["x"], ["y"])],
        [value("x", FLOAT, ["batch", 7])],
        [value("y", FLOAT, ["batch", 7])],
    )
    with pytest.raises(UsageError, match=r"no input is an image.*x: float32 \[batch, 7\]"):
        convert(proto, tmp_path, "nchw")
    assert not (tmp_path / "nchw.onnx").exists()


def test_an_unknown_layout_is_told() -> None:
    with pytest.raises(UsageError, match="layout 'chwn' is not known"):
        as_layout("chwn")
    assert as_layout("NHWC") == "nhwc"


@pytest.mark.parametrize(
    ("sizes", "source", "layout"),
    [
        ((1, 3, 8, 8), "onnx", "nchw"),
        ((1, 8, 8, 3), "onnx", "nhwc"),
        ((1, 3, 8, 3), "onnx", "nchw"),
        ((1, 3, 8, 3), "keras", "nhwc"),
        ((1, 8, 8, 8), "keras", None),
        (("batch", "height", "width", 4), "savedmodel", "nhwc"),
        ((3, 8, 8), "onnx", None),
    ],
)
def test_a_layout_is_told_from_the_channels(
    sizes: tuple[int | str, ...], source: str, layout: str | None
) -> None:
    assert layout_of(TensorSpec(name="x", dtype="float32", shape=sizes), source) == layout


def test_a_turned_source_takes_turned_data(tmp_path: Path) -> None:
    onnx.save(conv_model(), tmp_path / "in.onnx")
    request = IntakeRequest(layout="nchw")
    source = open_source(tmp_path / "in.onnx", tmp_path, request)
    assert [str(s) for s in source.inputs] == ["image: float32 [batch, 1, 8, 8]"]
    image = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
    source.convert(tmp_path / "out.onnx")
    (given,) = source.answer([{"image": image}])
    (made,) = answers(tmp_path / "out.onnx", [{"image": image}])
    assert np.allclose(given["probabilities"], made["probabilities"], atol=1e-6)
