"""Operators whose kernels compute with the integers of quantized tensors: the ONNX file gives the same integers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.intake.quantized_weights import separate_quantized_weights
from edgepack.intake.tflite.flatbuffer import Graph
from tests.intake.tflite.build import both, convert, empty, save, weights

#: A zero point that shows where a kernel takes 0 for it.
SCALE, ZERO = 0.1, 20


def quantized(graph: Graph, index: int) -> int:
    graph.tensors[index].quantization = schema.QuantizationParametersT(
        scale=np.float32([SCALE]), zeroPoint=np.int64([ZERO])
    )
    return index


def answers(
    name: str,
    data: Any,
    before: Sequence[Any],
    after: Sequence[Any],
    shape: Sequence[int],
    options: Any,
    path: Path,
) -> tuple[Any, Any]:
    """TFLite's and ONNX's answer of an operator that reads int8 `data` between constants, and writes int8."""
    graph = empty()
    x = quantized(graph, graph.add_tensor("x", data.shape, "int8"))
    first = [graph.add_constant("c", value) for value in before]
    last = [graph.add_constant("c", value) for value in after]
    last = [quantized(graph, i) if graph.constant(i).dtype == np.int8 else i for i in last]
    y = quantized(graph, graph.add_tensor("y", shape, "int8"))
    graph.operators.append(graph.operator(name, [*first, x, *last], [y], options))
    _, want, got = both(save(graph, [x], [y], path), [data])
    return want[0], got[0]


def bytes_of(*shape: int) -> Any:
    return np.random.default_rng(5).integers(-128, 128, shape).astype(np.int8)


@pytest.mark.parametrize("rows", [[1, 3, 6], [1, 3, 1]])
def test_scatter_nd_fills_with_the_integer_0_and_adds_integers(
    rows: list[int], tmp_path: Path
) -> None:
    want, got = answers(
        "SCATTER_ND",
        bytes_of(3, 4),
        [np.int32(rows).reshape(3, 1)],
        [np.int32([8, 4])],
        (8, 4),
        schema.ScatterNdOptionsT(),
        tmp_path / "m.tflite",
    )
    assert (want[0] == 0).all()
    np.testing.assert_array_equal(got, want)


def test_scatter_nd_adds_floats_that_fall_on_one_place(tmp_path: Path) -> None:
    graph = empty()
    x, y = graph.add_tensor("x", (3, 4)), graph.add_tensor("y", (8, 4))
    rows, shape = (graph.add_constant("c", np.int32(v)) for v in ([[1], [3], [1]], [8, 4]))
    options = schema.ScatterNdOptionsT()
    graph.operators.append(graph.operator("SCATTER_ND", [rows, x, shape], [y], options))
    _, want, got = both(save(graph, [x], [y], tmp_path / "m.tflite"), [weights(3, 4)])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-6)
    np.testing.assert_allclose(want[0][1], weights(3, 4)[[0, 2]].sum(0), rtol=1e-6)


@pytest.mark.parametrize(("places", "values"), [([1, 3, 6], (3,)), ([3], ())])
def test_sparse_to_dense_fills_with_the_default_as_it_is(
    places: Any, values: tuple[int, ...], tmp_path: Path
) -> None:
    want, got = answers(
        "SPARSE_TO_DENSE",
        bytes_of(*values),
        [np.asarray(places, np.int32), np.int32([8])],
        [np.array(-7, np.int8)],
        (8,),
        schema.SparseToDenseOptionsT(),
        tmp_path / "m.tflite",
    )
    assert want[0] == -7
    np.testing.assert_array_equal(got, want)


def test_matrix_diag_fills_with_the_integer_0(tmp_path: Path) -> None:
    options, path = schema.MatrixDiagOptionsT(), tmp_path / "m.tflite"
    want, got = answers("MATRIX_DIAG", bytes_of(2, 3), [], [], (2, 3, 3), options, path)
    assert want[0, 0, 1] == 0
    np.testing.assert_array_equal(got, want)


def test_neg_negates_integers_and_wraps(tmp_path: Path) -> None:
    data = np.int8([[-128, -127, 0, 5, 127]])
    want, got = answers(
        "NEG", data, [], [], data.shape, schema.NegOptionsT(), tmp_path / "m.tflite"
    )
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_cast_takes_integers_as_they_are(dtype: str, tmp_path: Path) -> None:
    graph, data = empty(), bytes_of(2, 3)
    x = quantized(graph, graph.add_tensor("x", data.shape, "int8"))
    y = graph.add_tensor("y", data.shape, dtype)
    graph.operators.append(graph.operator("CAST", [x], [y], schema.CastOptionsT()))
    _, want, got = both(save(graph, [x], [y], tmp_path / "m.tflite"), [data])
    np.testing.assert_array_equal(want[0], data)
    np.testing.assert_array_equal(got[0], want[0])


# Weights that two operators read, which onnxruntime makes unsigned


def precise() -> Any:
    """What edgepack proves graphs with: int8 weights become uint8."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def two_readers(weight: Any, nodes: int) -> onnx.ModelProto:
    """Two MatMuls of quantized activations by one int8 weight, through one DequantizeLinear or two."""
    lines, value = [], "x"
    for i in range(nodes):
        lines.append(helper.make_node("DequantizeLinear", ["w", "s", "z"], [f"w{i}"]))
    for i in range(2):
        lines += [
            helper.make_node("QuantizeLinear", [value, "s", "z"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "s", "z"], [f"d{i}"]),
            helper.make_node("MatMul", [f"d{i}", f"w{i % nodes}"], [f"m{i}"]),
        ]
        value = f"m{i}"
    lines.append(helper.make_node("QuantizeLinear", [value, "s", "z"], ["q"]))
    lines.append(helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"]))
    x, y = (helper.make_tensor_value_info(n, 1, [1, 8]) for n in "xy")
    named = {"w": weight, "s": np.float32(0.05), "z": np.int8(0)}
    constants = [numpy_helper.from_array(np.asarray(v), n) for n, v in named.items()]
    graph = helper.make_graph(lines, "g", [x], [y], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_weight_with_two_readers_opens_and_answers_the_same(nodes: int) -> None:
    model = two_readers(np.int8(np.clip(weights(8, 8) * 60, -127, 127)), nodes)
    plain = onnxruntime.InferenceSession(model.SerializeToString())
    with pytest.raises(Exception, match="Attempt to replace the existing tensor"):
        onnxruntime.InferenceSession(model.SerializeToString(), precise())
    separate_quantized_weights(model.graph)
    onnx.checker.check_model(model)
    session = onnxruntime.InferenceSession(model.SerializeToString(), precise())
    feed = {"x": weights(1, 8)}
    (want,), (got,) = plain.run(None, feed), session.run(None, feed)
    np.testing.assert_allclose(got, want, atol=0.0501)
    assert np.abs(want).max() > 1


def test_small_weights_stay_shared() -> None:
    model = two_readers(np.full((8, 8), 64, np.int8), 2)
    before = model.SerializeToString(deterministic=True)
    separate_quantized_weights(model.graph)
    assert model.SerializeToString(deterministic=True) == before
    onnxruntime.InferenceSession(before, precise())


def test_an_int8_model_whose_convolutions_have_equal_zero_points_opens(tmp_path: Path) -> None:
    import tensorflow as tf

    def net(x: Any) -> Any:
        for i in range(3):
            x = tf.nn.relu(tf.nn.conv2d(x, weights(3, 3, 4, 4) + i, 1, "SAME"))
        return x

    path = tmp_path / "m.tflite"
    path.write_bytes(convert(net, (1, 8, 8, 4), kind="int8"))
    feed = np.random.default_rng(1).standard_normal((1, 8, 8, 4)).astype(np.float32)
    _, (want, step), _ = both(path, [feed])
    session = onnxruntime.InferenceSession(path.with_suffix(".onnx"), precise())
    (got,) = session.run(None, {session.get_inputs()[0].name: feed})
    assert np.abs(got - want).max() <= step * 1.001
