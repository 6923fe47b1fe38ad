"""Biases after quantization."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.artifact import ModelFile
from edgepack.passes.bias_correction import (
    MOST_FEEDS,
    MOST_MACS,
    affordable_feeds,
    biased_layers,
    usual_mean,
)
from edgepack.passes.int8 import Int8
from edgepack.prove.engine import answers
from tests.models import int8_recipe, model, run_step, tensors, value, wrap

TENSORRT = int8_recipe("jetson-orin")


def slanted(*, bias: bool = False) -> onnx.ModelProto:
    """Two convolutions, of whose weights all but the largest round down: by nearly half a step each, on inputs that are all positive."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in (("w1", (6, 3, 3, 3)), ("w2", (4, 6, 3, 3))):
        steps = rng.integers(-40, 40, shape) + 0.45
        steps.reshape(len(steps), -1)[:, 0] = 127
        arrays[name] = (steps / 127).astype(np.float32)
    if bias:
        arrays["b1"] = np.linspace(-1, 1, 6, dtype=np.float32)
    nodes = [
        helper.make_node(
            "Conv", ["image", "w1", *(["b1"] if bias else [])], ["c1"], "first", pads=[1] * 4
        ),
        helper.make_node("Relu", ["c1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2"], ["sum"], "second", pads=[1] * 4),
    ]
    return model(
        nodes,
        [value("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [value("sum", TensorProto.FLOAT, [1, 4, 8, 8])],
        tensors(arrays),
    )


def pictures(count: int, *, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).random((count, 3, 8, 8)).astype(np.float32)


def shift(step: Int8, start: ModelFile, folder: Path) -> np.ndarray:
    """[channels]: by how much the outputs on new pictures are off in the mean, in shares of their spread."""
    made = run_step(step, start, folder, pictures(32)).model
    feeds = [{"image": x[None]} for x in pictures(32, seed=2)]
    given, wanted = (
        np.concatenate([a["sum"] for a in answers(m.path, feeds)]) for m in (made, start)
    )
    off = (given - wanted).mean(axis=(0, 2, 3))
    return np.abs(off) / wanted.std(axis=(0, 2, 3))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "recipe",
    [
        Int8(),
        Int8(activations="uint8", reduce_range=True),
        Int8(activations="uint8", per_channel=False),
        TENSORRT,
    ],
)
def test_what_rounding_shifts_is_given_back(recipe: Int8, bias: bool, tmp_path: Path) -> None:
    start = wrap(slanted(bias=bias), tmp_path)
    without = shift(dataclasses.replace(recipe, bias_correction=False), start, tmp_path)
    corrected = shift(recipe, start, tmp_path)
    assert without.max() > 0.02
    assert corrected.max() < 0.2 * without.max()


def test_it_says_how_many_biases_it_corrected_on_how_many_samples(tmp_path: Path) -> None:
    start = wrap(slanted(), tmp_path)
    facts = run_step(Int8(), start, tmp_path, pictures(12)).facts
    assert (facts["corrected_biases"], facts["correction_samples"]) == (2, 12)
    facts = run_step(Int8(bias_correction=False), start, tmp_path, pictures(12)).facts
    assert "corrected_biases" not in facts


def test_where_stages_cannot_run_biases_stay_and_that_is_said(tmp_path: Path) -> None:
    proto = slanted()
    # A sequence lies between the two convolutions.
    del proto.graph.node[1]
    proto.graph.node.insert(0, helper.make_node("SequenceConstruct", ["image"], ["s"], "pack"))
    proto.graph.node.insert(
        2, helper.make_node("ConcatFromSequence", ["s"], ["again"], "unpack", axis=0)
    )
    proto.graph.node.insert(3, helper.make_node("Concat", ["again"] * 2, ["six"], "six", axis=1))
    proto.graph.node.insert(4, helper.make_node("Add", ["c1", "six"], ["r1"], "add"))
    facts = run_step(Int8(), wrap(proto, tmp_path), tmp_path, pictures(8)).facts
    assert facts["corrected_biases"] == 0
    assert facts["bias_correction"].startswith("not done: s is seq(tensor(float))")


def test_tensorrt_gets_float_biases_and_zero_points_of_zero(tmp_path: Path) -> None:
    made = run_step(TENSORRT, wrap(slanted(), tmp_path), tmp_path, pictures(8)).model
    graph = onnx.load(made.path).graph
    held = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    assert {held[n.input[2]].dtype.name for n in convolutions} == {"float32"}
    assert all(held[n.input[2]].any() for n in convolutions)
    pairs = [n for n in graph.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert {held[n.input[2]].dtype.name for n in pairs} == {"int8"}
    assert not any(held[n.input[2]].any() for n in pairs)


def test_a_layer_in_float_keeps_its_bias(tmp_path: Path) -> None:
    step = Int8(float_nodes=("first",))
    made = run_step(step, wrap(slanted(bias=True), tmp_path), tmp_path, pictures(8))
    graph = onnx.load(made.model.path).graph
    held = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    first = next(n for n in graph.node if n.name == "first")
    assert np.array_equal(held[first.input[2]], np.linspace(-1, 1, 6, dtype=np.float32))
    assert made.facts["corrected_biases"] == 1


def test_of_several_takers_of_a_bias_none_is_corrected() -> None:
    proto = slanted(bias=True)
    proto.graph.node.append(helper.make_node("Mul", ["c1", "b1"], ["other"]))
    assert [layer.node for layer in biased_layers(proto)] == ["second"]


def test_a_scaled_bias_is_left_alone() -> None:
    arrays = {"w": np.ones((3, 5), np.float32), "b": np.ones(5, np.float32)}

    def gemm(**attributes: float) -> onnx.ModelProto:
        node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **attributes)
        edges = [value("x", TensorProto.FLOAT, [1, 3])], [value("y", TensorProto.FLOAT, [1, 5])]
        return model([node], *edges, tensors(arrays))

    assert [layer.bias for layer in biased_layers(gemm())] == ["b"]
    assert not biased_layers(gemm(beta=0.5))


def test_large_models_are_run_on_few_samples_and_the_largest_on_none() -> None:
    assert affordable_feeds(10**6) == MOST_FEEDS
    assert affordable_feeds(MOST_MACS // 20) == 10
    assert affordable_feeds(MOST_MACS) == 0


def test_a_sample_that_is_off_as_no_other_does_not_move_the_mean() -> None:
    errors = np.random.default_rng(0).normal(1, 0.1, (20, 3))
    mean = errors.mean(axis=0)
    assert np.array_equal(usual_mean(errors), mean)
    assert np.allclose(usual_mean(np.vstack([errors, np.full((2, 3), 400.0)])), mean)
    assert not usual_mean(np.zeros((4, 3))).any()
