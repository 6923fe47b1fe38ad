"""Constant folding and fusion within standard ONNX."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgepack import onnxfile
from edgepack.passes.shapes import Shapes
from edgepack.passes.simplify import Simplify
from tests.models import (
    FLOAT,
    answers_of,
    conv_model,
    images,
    model,
    run_step,
    tensors,
    value,
    wrap,
)


def operators(path: Path) -> Counter[str]:
    return Counter(n.op_type for n in onnx.load(path).graph.node)


def test_constants_are_folded_and_the_normalization_goes_into_the_convolution(
    tmp_path: Path,
) -> None:
    start = wrap(conv_model(batch=1), tmp_path)
    result = run_step(Simplify(), start, tmp_path)
    left = operators(result.model.path)
    assert left["Mul"] == left["BatchNormalization"] == 0
    assert left["Conv"] == left["Gemm"] == 1
    assert result.facts == {"nodes_before": 9, "nodes_after": sum(left.values())}


@pytest.mark.parametrize("batch", [1, "batch"])
def test_answers_stay_as_they_were(tmp_path: Path, batch: int | str) -> None:
    start = wrap(conv_model(batch=batch), tmp_path)
    made = run_step(Simplify(), start, tmp_path).model
    before, after = (answers_of(m, image=images(1)) for m in (start, made))
    assert np.allclose(before["probabilities"], after["probabilities"], atol=1e-6)


def test_only_standard_operators_are_left(tmp_path: Path) -> None:
    made = run_step(Simplify(), wrap(conv_model(batch=1), tmp_path), tmp_path).model
    assert onnxfile.node_domains(onnx.load(made.path)) <= set(onnxfile.ONNX_DOMAINS)
    assert [o.domain for o in onnx.load(made.path).opset_import] == [""]


def test_edges_and_opset_stay(tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    made = run_step(Simplify(), start, tmp_path).model
    assert (made.inputs, made.outputs, made.opset) == (start.inputs, start.outputs, 17)
    assert onnx.load(made.path).ir_version == onnx.load(start.path).ir_version


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    digests = {
        run_step(Simplify(), start, tmp_path / side).model.sha256 for side in _sides(tmp_path)
    }
    assert len(digests) == 1


def _sides(folder: Path) -> list[str]:
    for side in ("a", "b"):
        (folder / side).mkdir()
    return ["a", "b"]


def test_shapes_that_are_computed_become_constants(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["first"]),
        helper.make_node("Unsqueeze", ["first", "axes"], ["first_1d"]),
        helper.make_node("Concat", ["first_1d", "minus_one"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["y"]),
    ]
    constants = tensors({"zero": np.int64(0), "axes": np.int64([0]), "minus_one": np.int64([-1])})
    proto = model(
        nodes, [value("x", FLOAT, ["batch", 2, 3])], [value("y", FLOAT, ["batch", 6])], constants
    )
    fixed = run_step(Shapes(batch=2), wrap(proto, tmp_path), tmp_path).model
    made = run_step(Simplify(), fixed, tmp_path).model
    assert operators(made.path) == {"Reshape": 1}
    assert made.outputs[0].shape == (2, 6)
