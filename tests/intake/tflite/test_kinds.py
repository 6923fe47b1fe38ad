"""Every kind of TFLite file answers in ONNX as TFLite's interpreter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tensorflow as tf

from edgepack.intake.tflite.flatbuffer import Graph, graphs, read
from edgepack.intake.tflite.model import TFLiteModel
from tests.intake.tflite.build import both, convert, empty, save, weights

SHAPE = (1, 8, 8, 3)
FLOAT = {"rtol": 1e-3, "atol": 1e-4}


def logits(x: Any) -> Any:
    """Convolutions of both kinds, pooling, a dense layer: all that has weights of its own layout."""
    y = tf.nn.relu6(tf.nn.conv2d(x, weights(3, 3, 3, 8), 2, "SAME") + weights(8))
    y = tf.nn.relu(
        tf.nn.depthwise_conv2d(y, weights(3, 3, 8, 1), [1, 1, 1, 1], "SAME") + weights(8)
    )
    return tf.matmul(tf.reduce_mean(y, [1, 2]), weights(8, 5)) + weights(5)


def net(x: Any) -> Any:
    """The same, and probabilities."""
    return tf.nn.softmax(logits(x))


def image(seed: int = 1) -> Any:
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


def operators(path: Path) -> set[str]:
    return {node.op_type for node in onnx.load(path).graph.node}


@pytest.mark.parametrize("kind", ["float", "half"])
def test_float_and_half_weights_answer_within_float_tolerance(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(net, SHAPE, kind=kind))
    model, want, got = both(path, [image()])
    np.testing.assert_allclose(got[0], want[0], **FLOAT)
    assert not model.approximate
    assert not operators(path.with_suffix(".onnx")) & {"Cast", "DequantizeLinear"}


def test_a_dynamic_range_model_is_off_by_no_more_than_the_step_it_reports(tmp_path: Path) -> None:
    def wide(x: Any) -> Any:
        return tf.matmul(x, weights(64, 32)) + weights(32)

    path = tmp_path / "m.tflite"
    path.write_bytes(convert(wide, (4, 64), kind="dynamic"))
    feed = np.random.default_rng(3).standard_normal((4, 64)).astype(np.float32)
    model, (want, step), (got,) = both(path, [feed])
    assert model.approximate
    assert 0 < step < 0.05 * np.abs(want).max()
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4 + float(step))
    assert not np.allclose(got, want, **FLOAT), (
        "the hybrid kernel is exact: the step proves nothing"
    )


@pytest.mark.parametrize("edge", [tf.int8, tf.uint8, tf.float32])
def test_an_int8_model_keeps_its_scales_and_is_off_by_one_step_at_most(
    edge: Any, tmp_path: Path
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(net, SHAPE, kind="int8", edge=edge))
    feed = image()
    if edge != tf.float32:
        lowest = -128 if edge == tf.int8 else 0
        feed = np.clip(np.round(feed * 30) + lowest + 128, lowest, lowest + 255)
        feed = feed.astype(edge.as_numpy_dtype)
    model, (want, step), (got,) = both(path, [feed])
    assert got.dtype == want.dtype == np.dtype(model.inputs[0].dtype) == edge.as_numpy_dtype
    assert step == (1 if edge != tf.float32 else pytest.approx(1 / 256))
    assert np.abs(got.astype(float) - want).max() <= step * 1.001
    assert {"QuantizeLinear", "DequantizeLinear", "Conv"} <= operators(path.with_suffix(".onnx"))


def test_per_channel_scales_go_along_the_channels(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(net, SHAPE, kind="int8"))
    both(path, [image()])
    proto = onnx.load(path.with_suffix(".onnx"))
    sizes = {i.name: list(i.dims) for i in proto.graph.initializer}
    per_channel = [
        (sizes[n.input[0]], sizes[n.input[1]], a.i)
        for n in proto.graph.node
        if n.op_type == "DequantizeLinear" and sizes.get(n.input[1])
        for a in n.attribute
        if a.name == "axis"
    ]
    assert len(per_channel) >= 4
    assert all(weight[axis] == scales[0] for weight, scales, axis in per_channel)


def test_16_bit_activations_are_within_two_steps_in_opset_17(tmp_path: Path) -> None:
    """The converter gives both convolutions one bias tensor, with the scale of the first."""
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(logits, SHAPE, kind="int16"))
    _, (want, step), (got,) = both(path, [image()])
    assert 0 < step < 1e-3
    assert np.abs(got - want).max() <= 2.001 * step
    assert onnx.load(path.with_suffix(".onnx")).opset_import[0].version == 17


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_is_spelled_out_in_opset_17(approximate: bool, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(lambda x: tf.nn.gelu(x, approximate=approximate), (2, 7)))
    assert [Graph.name(g, op) for g in graphs(read(path)) for op in g.operators] == ["GELU"]
    _, want, got = both(path, [weights(2, 7) * 3])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)


def test_softmax_scales_the_logits_by_beta(tmp_path: Path) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    graph = empty()
    x, y = graph.add_tensor("x", (2, 5)), graph.add_tensor("y", (2, 5))
    graph.operators.append(graph.operator("SOFTMAX", [x], [y], schema.SoftmaxOptionsT(beta=3.0)))
    _, want, got = both(save(graph, [x], [y], tmp_path / "m.tflite"), [weights(2, 5)])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[0].sum(-1), 1, rtol=1e-5)


@pytest.mark.parametrize(("name", "low"), [("RELU_N1_TO_1", -1), ("RELU_0_TO_1", 0)])
def test_limiting_activations_are_clips(name: str, low: int, tmp_path: Path) -> None:
    graph = empty()
    x, y = graph.add_tensor("x", (3, 5)), graph.add_tensor("y", (3, 5))
    graph.operators.append(graph.operator(name, [x], [y]))
    _, want, got = both(save(graph, [x], [y], tmp_path / "m.tflite"), [weights(3, 5) * 2])
    np.testing.assert_array_equal(got[0], want[0])
    assert got[0].min() == low
    assert got[0].max() == 1


def test_a_fused_limit_is_taken_apart(tmp_path: Path) -> None:
    from tensorflow.lite.python import schema_py_generated as schema

    graph = empty()
    x, y = graph.add_tensor("x", (3, 5)), graph.add_tensor("y", (3, 5))
    options = schema.AddOptionsT(fusedActivationFunction=schema.ActivationFunctionType.RELU_N1_TO_1)
    graph.operators.append(graph.operator("ADD", [x, x], [y], options))
    _, want, got = both(save(graph, [x], [y], tmp_path / "m.tflite"), [weights(3, 5)])
    np.testing.assert_array_equal(got[0], want[0])
    assert np.abs(got[0]).max() == 1


def test_loops_and_branches_convert(tmp_path: Path) -> None:
    def function(x: Any) -> Any:
        y = tf.while_loop(
            lambda i, a: i < 5, lambda i, a: (i + 1, a * 1.1 + x), [tf.constant(0), x]
        )[1]
        return tf.cond(tf.reduce_sum(y) > 0.0, lambda: y * 2.0, lambda: y - 1.0)

    path = tmp_path / "m.tflite"
    path.write_bytes(convert(function, (2, 3)))
    for sign in (1, -1):
        _, want, got = both(path, [sign * np.abs(weights(2, 3))])
        np.testing.assert_allclose(got[0], want[0], **FLOAT)


def test_a_free_batch_is_answered_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(convert(lambda x: tf.reshape(x, [-1, 12]) * 2.0, (None, 3, 4)))
    model = TFLiteModel.open(path)
    assert model.inputs[0].shape == ("batch", 3, 4)
    for batch in (1, 3):
        _, want, got = both(path, [weights(batch, 3, 4)])
        assert got[0].shape == (batch, 12)
        np.testing.assert_array_equal(got[0], want[0])
