"""Names, signatures and cuts: a TFLite file's edges are what the user called them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError, UsageError
from edgepack.intake.request import IntakeRequest
from edgepack.intake.tflite.edges import clean_name
from edgepack.intake.tflite.flatbuffer import Graph
from edgepack.intake.tflite.model import TFLiteModel, open_tflite
from tests.intake.tflite.build import both, empty, save, weights


@pytest.mark.parametrize(
    ("name", "clean"),
    [
        ("serving_default_image:0", "image"),
        ("model/dense_1/BiasAdd;model/dense_1/MatMul", "dense_1"),
        ("StatefulPartitionedCall:2", ""),
        ("Identity_3", ""),
        ("Identity", ""),
        ("serving_default_keras_tensor_5:0", ""),
        ("regressors", "regressors"),
        ("x", "x"),
    ],
)
def test_names_lose_what_only_tensorflow_wrote(name: str, clean: str) -> None:
    assert clean_name(name) == clean


def two_steps(path: Path, names: tuple[str, ...] = ("x", "middle", "Identity")) -> Path:
    """y = exp(−x), with tensors of these names."""
    graph = empty()
    x, middle, y = (graph.add_tensor(n, (2, 3)) for n in names)
    graph.operators.append(graph.operator("NEG", [x], [middle]))
    graph.operators.append(graph.operator("EXP", [middle], [y]))
    return save(graph, [x], [y], path)


def test_tensors_with_equal_or_empty_names_are_told_apart(tmp_path: Path) -> None:
    x = weights(2, 3)
    for names in (("t", "t", "t"), ("", "", "")):
        model, _, (got,) = both(two_steps(tmp_path / "m.tflite", names), [x])
        np.testing.assert_allclose(got, np.exp(-x), rtol=1e-6)
        assert model.inputs[0].name != model.outputs[0].name


def test_a_nameless_output_is_called_output(tmp_path: Path) -> None:
    model = TFLiteModel.open(two_steps(tmp_path / "m.tflite"))
    assert [s.name for s in (*model.inputs, *model.outputs)] == ["x", "output"]


def test_the_model_can_end_at_a_tensor_within(tmp_path: Path) -> None:
    path, x = two_steps(tmp_path / "m.tflite"), weights(2, 3)
    _, want, got = both(path, [x], outputs=("middle",))
    np.testing.assert_array_equal(got[0], -x)
    np.testing.assert_array_equal(want[0], -x)
    with pytest.raises(ModelError, match="no tensor 'mid'") as caught:
        TFLiteModel.open(path, outputs=("mid",))
    assert "middle" in caught.value.fix


def test_outputs_that_are_inputs_or_repeat_convert(tmp_path: Path) -> None:
    graph = empty()
    x, y = graph.add_tensor("x", (2, 3)), graph.add_tensor("y", (2, 3))
    graph.operators.append(graph.operator("NEG", [x], [y]))
    feed = weights(2, 3)
    path = save(graph, [x], [x, y, y], tmp_path / "m.tflite")
    model, _, got = both(path, [feed])
    assert [s.name for s in model.outputs] == ["x_1", "y", "y_1"]
    for value, want in zip(got, (feed, -feed, -feed), strict=True):
        np.testing.assert_array_equal(value, want)


class _Two(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, name="first")])
    def add(self, first: Any) -> Any:
        return {"total": first + 1.0, "half": first * 0.5}

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, name="second")])
    def square(self, second: Any) -> Any:
        return {"squared": second * second}


@pytest.fixture(scope="module")
def signatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import warnings

    module, folder = _Two(), tmp_path_factory.mktemp("signatures")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tf.saved_model.save(module, folder, {"add": module.add, "square": module.square})
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(folder), signature_keys=["add", "square"]
        )
        (folder / "m.tflite").write_bytes(converter.convert())
    return folder / "m.tflite"


def test_each_signature_has_its_own_names_and_answers(signatures: Path) -> None:
    model, want, got = both(signatures, [weights(4, 3)], signature="add")
    assert [str(s) for s in model.inputs] == ["first: float32 [batch, 3]"]
    assert {s.name for s in model.outputs} == {"total", "half"}
    model, want, got = both(signatures, [weights(2)], signature="square")
    assert [str(s) for s in model.outputs] == ["squared: float32 [2]"]
    np.testing.assert_allclose(got[0], weights(2) ** 2, rtol=1e-6)
    np.testing.assert_array_equal(want[0], got[0])


def test_an_unknown_signature_is_refused_with_those_there_are(signatures: Path) -> None:
    with pytest.raises(ModelError) as caught:
        TFLiteModel.open(signatures, signature="train")
    assert "add, square" in caught.value.fix


def test_chosen_inputs_are_refused(tmp_path: Path) -> None:
    path = two_steps(tmp_path / "m.tflite")
    with pytest.raises(UsageError, match="inputs cannot be chosen"):
        open_tflite(path, IntakeRequest(inputs=("middle",)), {})
    assert open_tflite(path, IntakeRequest(), {}).inputs[0].name == "x"


def test_operators_that_onnx_lacks_are_listed_by_name_and_tensor(tmp_path: Path) -> None:
    from tests.intake.tflite.build import custom

    graph = empty()
    x, a, b, y = (graph.add_tensor(n, (2, 3)) for n in ("x", "a", "b", "y"))
    custom(graph, "Sorcery", [x], [a], None)
    custom(graph, "Sorcery", [a], [b], b"\x00\x01")
    custom(graph, "Alchemy", [b], [y], None)
    model = TFLiteModel.open(save(graph, [x], [y], tmp_path / "m.tflite"))
    with pytest.raises(ModelError) as caught:
        model.convert(tmp_path / "m.onnx")
    assert "Sorcery ×2" in caught.value.cause
    assert "Alchemy ×1" in caught.value.cause
    assert "(y)" in caught.value.cause
    assert not (tmp_path / "m.onnx").exists()
    np.savez(tmp_path / "feeds.npz", weights(2, 3))
    with pytest.raises(ModelError, match="Sorcery"):
        model.answer(tmp_path / "feeds.npz", tmp_path / "answers.npz")


def test_a_string_input_is_refused(tmp_path: Path) -> None:
    graph = Graph(**vars(empty()))
    x, y = graph.add_tensor("words", (1,)), graph.add_tensor("y", (1,))
    graph.tensors[x].type = schema.TensorType.STRING
    graph.operators.append(graph.operator("ABS", [x], [y]))
    with pytest.raises(ModelError, match="words is of type string"):
        TFLiteModel.open(save(graph, [x], [y], tmp_path / "m.tflite"))
