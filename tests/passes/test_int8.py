"""Static INT8."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.artifact import ModelFile
from edgepack.errors import StepError, UsageError
from edgepack.passes.int8 import Int8
from edgepack.passes.simplify import Simplify
from tests.models import INT64, answers_of, conv_model, images, model, run_step, value, wrap


@pytest.fixture
def start(tmp_path: Path) -> ModelFile:
    return run_step(Simplify(), wrap(conv_model(batch=1), tmp_path), tmp_path).model


def zero_points(path: Path) -> dict[str, list[np.ndarray]]:
    """Zero points of all (de)quantize nodes, by operator."""
    graph = onnx.load(path).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    found: dict[str, list[np.ndarray]] = {"QuantizeLinear": [], "DequantizeLinear": []}
    for node in graph.node:
        if node.op_type in found:
            found[node.op_type].append(values[node.input[2]])
    return found


def test_without_calibration_it_is_refused(start: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="needs calibration data"):
        run_step(Int8(), start, tmp_path)


def test_by_default_activations_and_weights_are_signed(start: ModelFile, tmp_path: Path) -> None:
    result = run_step(Int8(), start, tmp_path, images(8))
    points = zero_points(result.model.path)
    assert {p.dtype.name for p in points["QuantizeLinear"]} == {"int8"}
    # Biases are int32 with a scale of their own.
    assert {p.dtype.name for p in points["DequantizeLinear"]} == {"int8", "int32"}
    assert result.facts["calibration_samples"] == 8
    assert result.facts["quantize_nodes"] == len(points["QuantizeLinear"]) > 0
    assert result.facts["dequantize_nodes"] == len(points["DequantizeLinear"]) > 0


def test_edges_keep_name_dtype_and_shape(start: ModelFile, tmp_path: Path) -> None:
    made = run_step(Int8(), start, tmp_path, images(8)).model
    assert (made.inputs, made.outputs, made.opset) == (start.inputs, start.outputs, 17)
    assert onnx.load(made.path).ir_version == 8


def test_weights_of_seven_bits_leave_room_for_the_sum_of_two_products(
    start: ModelFile, tmp_path: Path
) -> None:
    largest = {}
    for reduce_range in (False, True):
        step = Int8(activations="uint8", reduce_range=reduce_range)
        graph = onnx.load(run_step(step, start, tmp_path, images(8)).model.path).graph
        held = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
        taken = [held[n.input[0]] for n in graph.node if n.input[0] in held]
        weights = [w for w in taken if w.dtype == np.int8 and w.size > 1]
        largest[reduce_range] = max(np.abs(w.astype(int)).max() for w in weights)
    assert largest == {False: 127, True: 64}


def test_answers_stay_near(start: ModelFile, tmp_path: Path) -> None:
    made = run_step(Int8(), start, tmp_path, images(50)).model
    for x in images(5, seed=2):
        before, after = (answers_of(m, image=x[None])["probabilities"] for m in (start, made))
        assert np.allclose(before, after, atol=0.15)
        assert not np.array_equal(before, after)


def test_weights_are_a_quarter_of_their_size(tmp_path: Path) -> None:
    start = wrap(conv_model(batch=1, features=512), tmp_path)
    made = run_step(Int8(), start, tmp_path, images(8)).model
    assert made.size_bytes < 0.45 * start.size_bytes


def test_the_recipe_is_followed(start: ModelFile, tmp_path: Path) -> None:
    recipe = Int8(
        activations="uint8", weights="uint8", per_channel=False, float_operators=("Softmax", "Conv")
    )
    made = run_step(recipe, start, tmp_path, images(8)).model
    points = zero_points(made.path)
    assert {p.dtype.name for p in points["QuantizeLinear"]} == {"uint8"}
    assert {p.size for p in points["DequantizeLinear"]} == {1}
    weights = {i.name: i.data_type for i in onnx.load(made.path).graph.initializer}
    conv = next(n for n in onnx.load(made.path).graph.node if n.op_type == "Conv")
    assert weights[conv.input[1]] == TensorProto.FLOAT


def test_per_channel_gives_each_output_channel_a_scale(start: ModelFile, tmp_path: Path) -> None:
    made = run_step(Int8(), start, tmp_path, images(8)).model
    assert {8, 10} <= {p.size for p in zero_points(made.path)["DequantizeLinear"]}


def test_symmetric_zero_points_are_all_zero(start: ModelFile, tmp_path: Path) -> None:
    skewed = run_step(Int8(), start, tmp_path, images(8)).model
    assert any(p.any() for p in zero_points(skewed.path)["QuantizeLinear"])
    made = run_step(Int8(symmetric=True), start, tmp_path, images(8)).model
    assert not any(p.any() for p in zero_points(made.path)["QuantizeLinear"])


def test_other_calibration_data_give_other_ranges(start: ModelFile, tmp_path: Path) -> None:
    one = run_step(Int8(), start, tmp_path, images(8))
    other = run_step(Int8(), start, tmp_path, images(8) * 2)
    assert one.model.sha256 != other.model.sha256
    assert one.facts["calibration_sha256"] != other.facts["calibration_sha256"]


def test_the_same_model_and_data_give_the_same_bytes(start: ModelFile, tmp_path: Path) -> None:
    digests = {run_step(Int8(), start, tmp_path, images(8)).model.sha256 for _ in range(2)}
    assert len(digests) == 1


def test_a_model_with_nothing_to_quantize_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["x"], ["y"])]
    proto = model(nodes, [value("x", INT64, [1, 2])], [value("y", INT64, [1, 2])])
    with pytest.raises(StepError, match="quantize"):
        run_step(Int8(), wrap(proto, tmp_path), tmp_path, np.ones((3, 2), np.int64))


def test_a_free_batch_stays_free(tmp_path: Path) -> None:
    made = run_step(Int8(), wrap(conv_model(), tmp_path), tmp_path, images(8)).model
    assert made.inputs[0].shape == ("batch", 8, 8, 1)
    assert answers_of(made, image=images(3))["probabilities"].shape == (3, 10)


def test_the_root_loggers_level_is_put_back(start: ModelFile, tmp_path: Path) -> None:
    before = logging.getLogger().level
    run_step(Int8(), start, tmp_path, images(2))
    assert logging.getLogger().level == before


def test_products_only_leaves_sums_and_functions_in_float(tmp_path: Path) -> None:
    from tests.legality.graphs import residual_model

    start = wrap(residual_model(), tmp_path)
    data = np.random.default_rng(0).random((8, 3, 16, 16)).astype(np.float32)
    made = run_step(Int8(products_only=True), start, tmp_path, data).model
    graph = onnx.load(made.path).graph
    makers = {name: node.op_type for node in graph.node for name in node.output}
    taken = {n.op_type: [makers.get(name) for name in n.input] for n in graph.node}
    assert taken["Conv"] == ["DequantizeLinear"] * 3
    assert taken["Gemm"] == ["DequantizeLinear"] * 3
    assert taken["Sigmoid"] == ["DequantizeLinear"]  # what the convolution before it made
    assert taken["Mul"] == ["Add", "Sigmoid"]


def test_a_tensor_that_was_never_finite_is_named(tmp_path: Path) -> None:
    """The logarithm of what is below zero on every sample, then a product that is to be quantized."""
    weight = numpy_helper.from_array(np.ones((4, 4), np.float32), "weight")
    proto = model(
        [
            helper.make_node("Log", ["x"], ["logs"]),
            helper.make_node("MatMul", ["logs", "weight"], ["y"]),
        ],
        [value("x", TensorProto.FLOAT, [1, 4])],
        [value("y", TensorProto.FLOAT, [1, 4])],
        [weight],
    )
    below = -np.ones((4, 4), np.float32)
    with pytest.raises(StepError, match="held no finite value on any of the 4 calibration"):
        run_step(Int8(), wrap(proto, tmp_path), tmp_path, calibration=below)
