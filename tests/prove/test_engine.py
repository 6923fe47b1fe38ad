"""onnxruntime on the build machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from edgepack.errors import StepError
from edgepack.prove.engine import answers
from tests.legality.graphs import quantized_conv
from tests.models import FLOAT, conv_model, images, model, two_input_model, value, wrap, write


def test_outputs_come_by_name_with_their_shapes_scalars_too(tmp_path: Path) -> None:
    path = write(two_input_model(), tmp_path / "m.onnx")
    feeds = {"left": np.ones((2, 3), np.float32), "right": np.full((2, 3), 2)}
    (outputs,) = answers(path, [feeds])
    assert list(outputs) == ["total", "count"]
    assert outputs["total"].tolist() == [[3.0] * 3] * 2
    assert outputs["count"].shape == ()
    assert float(outputs["count"]) == 12.0


def test_answers_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    path = write(conv_model(), tmp_path / "m.onnx")
    once, again = (answers(path, [{"image": images(4)}])[0] for _ in range(2))
    assert once["probabilities"].tobytes() == again["probabilities"].tobytes()


def test_a_graph_that_onnxruntime_refuses_is_named_with_its_words(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["nowhere"], ["y"])]
    bad = model(nodes, [value("x", FLOAT, [1])], [value("y", FLOAT, [1])])
    with pytest.raises(StepError, match=r"cannot open bad\.onnx: .*nowhere"):
        answers(write(bad, tmp_path / "bad.onnx"), [{"x": np.ones(1, np.float32)}])


def test_a_feed_of_a_wrong_shape_is_named_with_its_shape(tmp_path: Path) -> None:
    path = write(conv_model(), tmp_path / "m.onnx")
    with pytest.raises(StepError, match=r"m\.onnx on image float32 \[1, 9, 9, 1\]"):
        answers(path, [{"image": np.ones((1, 9, 9, 1), np.float32)}])


def test_a_float_bias_behind_integers_is_not_rounded_to_their_scale(tmp_path: Path) -> None:
    """onnxruntime's optimizers would (here to 0.005): the answers would be another graph's than the device is told to run."""
    proto = quantized_conv()
    constants = {i.name: i for i in proto.graph.initializer}
    bias = np.full(3, 0.0026, np.float32)
    constants["bias"].CopyFrom(numpy_helper.from_array(bias, "bias"))
    fine = numpy_helper.from_array(np.float32(0.0026 / 100), "fine")
    proto.graph.initializer.append(fine)
    for node in proto.graph.node[-3:-1]:
        node.input[1] = "fine"
    del proto.graph.node[-1]
    proto.graph.output[0].name = "c_dq"
    feed = {"image": np.zeros((1, 2, 4, 4), np.float32)}
    (answer,) = answers(wrap(proto, tmp_path).path, [feed])
    assert np.allclose(answer["c_dq"], 0.0026, rtol=1e-4)
