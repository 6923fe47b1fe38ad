"""Part of an ONNX file: it answers what the whole file has at that place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

import edgepack
from edgepack.errors import ModelError, UsageError
from edgepack.intake.request import IntakeRequest
from edgepack.prove.engine import answers
from tests.intake.test_canonical import branching
from tests.models import BOOL, FLOAT, conv_model, model, value


def part(proto: onnx.ModelProto, folder: Path, **request: tuple[str, ...]) -> Path:
    onnx.save(proto, folder / "whole.onnx")
    path = folder / f"part-{len(list(folder.iterdir()))}.onnx"
    edgepack.convert(folder / "whole.onnx", path, intake=IntakeRequest(**request))
    return path


def test_two_parts_make_the_whole(tmp_path: Path) -> None:
    image = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
    first = part(conv_model(), tmp_path, outputs=("relu",))
    (middle,) = answers(first, [{"image": image}])
    assert list(middle) == ["relu"]
    second = part(conv_model(), tmp_path, inputs=("relu",))
    assert onnx.load(second).graph.node[0].op_type == "MaxPool"
    (end,) = answers(second, [middle])
    (whole,) = answers(tmp_path / "whole.onnx", [{"image": image}])
    assert np.allclose(end["probabilities"], whole["probabilities"], atol=1e-6)


def test_weights_that_only_the_rest_needs_are_left_out(tmp_path: Path) -> None:
    proto = onnx.load(part(conv_model(), tmp_path, outputs=("relu",)))
    assert "half_weight" not in {i.name for i in proto.graph.initializer}


def test_a_value_that_a_branch_reads_is_needed(tmp_path: Path) -> None:
    proto = onnx.load(part(branching(1), tmp_path, inputs=("x", "positive__1")))
    assert [v.name for v in proto.graph.input] == ["x", "positive__1"]
    assert {n.op_type for n in proto.graph.node} >= {"Mul", "If"}
    assert "Greater" not in {n.op_type for n in proto.graph.node}


@pytest.mark.parametrize("text", ["true", "True"])
def test_an_input_can_be_fixed(tmp_path: Path, text: str) -> None:
    nodes = [helper.make_node("Where", ["flag", "x", "twice"], ["y"])]
    nodes.insert(0, helper.make_node("Add", ["x", "x"], ["twice"]))
    inputs = [value("x", FLOAT, [2]), value("flag", BOOL, [])]
    proto = model(nodes, inputs, [value("y", FLOAT, [2])])
    path = part(proto, tmp_path, inputs=("x", f"flag={text}"))
    (answer,) = answers(path, [{"x": np.float32([1, 2])}])
    assert answer["y"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"outputs": ("relo",)}, UsageError, "no value 'relo'"),
        ({"inputs": ("imag",)}, UsageError, "no value 'imag'"),
        ({"inputs": ("relu=x",)}, UsageError, "'x' is no float32"),
        ({"inputs": ("relu",), "outputs": ("nchw",)}, ModelError, "does not name: image"),
    ],
)
def test_what_cannot_be_cut_is_told(
    tmp_path: Path, request_: dict[str, tuple[str, ...]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        part(conv_model(), tmp_path, **request_)
    assert [p.name for p in tmp_path.iterdir()] == ["whole.onnx"]
