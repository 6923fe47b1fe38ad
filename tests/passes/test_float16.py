"""Half precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgepack.passes.float16 import Float16
from tests.models import (
    FLOAT,
    answers_of,
    conv_model,
    images,
    model,
    run_step,
    tensors,
    two_input_model,
    value,
    wrap,
)


def floats(path: Path) -> dict[str, int]:
    """Initializers of a float type, by name."""
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
    return {i.name: i.data_type for i in onnx.load(path).graph.initializer if i.data_type in kinds}


def test_weights_are_float16_and_edges_keep_dtype_name_and_shape(tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    made = run_step(Float16(), start, tmp_path).model
    assert (made.inputs, made.outputs, made.opset) == (start.inputs, start.outputs, 17)
    assert set(floats(made.path).values()) == {TensorProto.FLOAT16}


def test_integer_edges_stay_integers(tmp_path: Path) -> None:
    start = wrap(two_input_model(), tmp_path)
    made = run_step(Float16(), start, tmp_path).model
    assert made.inputs == start.inputs


def test_answers_stay_within_float16s_rounding(tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    made = run_step(Float16(), start, tmp_path).model
    before, after = (answers_of(m, image=images(4))["probabilities"] for m in (start, made))
    assert after.dtype == np.float32
    assert np.allclose(before, after, atol=1e-2)
    assert not np.array_equal(before, after)


def test_named_operators_stay_in_float32(tmp_path: Path) -> None:
    made = run_step(Float16(keep_float32=("Gemm",)), wrap(conv_model(), tmp_path), tmp_path).model
    graph = onnx.load(made.path).graph
    weights = {i.name: i.data_type for i in graph.initializer}
    gemm = next(n for n in graph.node if n.op_type == "Gemm")
    conv = next(n for n in graph.node if n.op_type == "Conv")
    assert weights[gemm.input[2]] == TensorProto.FLOAT
    assert weights[conv.input[1]] == TensorProto.FLOAT16


def test_weights_beyond_float16_are_counted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["y"])]
    for weight, clipped in ((1e3, 0), (1e6, 1)):
        proto = model(
            nodes,
            [value("x", FLOAT, [2])],
            [value("y", FLOAT, [2])],
            tensors({"w": np.float32([weight, 1])}),
        )
        result = run_step(Float16(), wrap(proto, tmp_path), tmp_path)
        assert result.facts == {"clipped_weights": clipped}


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    assert len({run_step(Float16(), start, tmp_path).model.sha256 for _ in range(2)}) == 1
