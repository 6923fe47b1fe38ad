"""What freezing must get right: compiled functions, captured constants, large weights, loops, state."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from edgepack.errors import ModelError
from edgepack.intake.tensorflow.convert import convert
from edgepack.intake.tensorflow.freeze import ASIDE_BYTES
from edgepack.intake.tensorflow.plugins import load_handlers
from tests.intake.tensorflow.proof import converted, edges, opened, operators


def saved(folder: Path, *layers: keras.Layer, shape: tuple[int | None, ...]) -> Path:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input(shape, name="x"), *layers])
    model.save(folder / "model.keras")
    return folder / "model.keras"


def export(folder: Path, function: tf.types.experimental.GenericFunction) -> Path:
    module = tf.Module()
    module.f = function
    tf.saved_model.save(module, str(folder / "saved"), signatures=function)
    return folder / "saved"


def test_a_function_to_be_compiled_is_inlined(tmp_path: Path) -> None:
    inner = tf.function(lambda t: tf.nn.relu(t) + 1.0, jit_compile=True)
    outer = tf.function(
        lambda x: {"y": inner(x) * 2.0}, input_signature=[tf.TensorSpec([None, 3], name="x")]
    )
    graph = opened(export(tmp_path, outer), "savedmodel")
    assert operators(converted(graph, tmp_path)) == ["Add", "Mul", "Relu"]


def test_a_captured_constant_is_no_input(tmp_path: Path) -> None:
    mean = np.float32([1, 2, 3])
    path = saved(
        tmp_path, keras.layers.Normalization(mean=mean, variance=[1, 2, 3]), shape=(4, 4, 3)
    )
    proto = converted(opened(path, "keras"), tmp_path)
    assert [v.name for v in proto.graph.input] == ["x"]


def test_large_weights_stay_out_of_the_graph_and_come_back_turned(tmp_path: Path) -> None:
    layers = keras.layers
    path = saved(
        tmp_path,
        layers.Conv2D(64, 3),
        layers.DepthwiseConv2D(5, depth_multiplier=16),
        layers.Conv2DTranspose(16, 3),
        layers.GlobalAveragePooling2D(),
        layers.Dense(2048),
        layers.Dense(40),
        shape=(12, 12, 64),
    )
    graph = opened(path, "keras")
    frozen = graph.freeze()
    assert len(frozen.weights) == 5
    assert frozen.graph_def.ByteSize() < ASIDE_BYTES
    proto = converted(graph, tmp_path)
    kinds = [n.op_type for n in proto.graph.node]
    assert kinds.count("Transpose") == 1
    assert "Identity" not in kinds
    assert [v.name for v in proto.graph.input] == ["x"]


def test_a_weight_that_is_read_in_two_ways_is_right_in_both(tmp_path: Path) -> None:
    tokens = keras.Input((5,), dtype="int32", name="tokens")
    embedding = keras.layers.ReversibleEmbedding(300, 64, tie_weights=True)
    answer = embedding(embedding(tokens), reverse=True)
    keras.Model(tokens, answer).save(tmp_path / "tied.keras")
    graph = opened(tmp_path / "tied.keras", "keras")
    proto = converted(graph, tmp_path)
    assert sum(i.dims == [300, 64] for i in proto.graph.initializer) == 1


def test_a_large_lstm_stays_one(tmp_path: Path) -> None:
    path = saved(tmp_path, keras.layers.LSTM(128), shape=(6, 64))
    kinds = operators(converted(opened(path, "keras"), tmp_path))
    assert "LSTM" in kinds
    assert "Loop" not in kinds


def test_state_is_refused_with_its_place(tmp_path: Path) -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input(batch_shape=(1, 4, 3), name="x"), keras.layers.GRU(2, stateful=True)]
    )
    model.save(tmp_path / "stateful.keras")
    graph = opened(tmp_path / "stateful.keras", "keras")
    with pytest.raises(ModelError, match="keeps state between runs") as caught:
        graph.freeze()
    assert "gru" in caught.value.cause
    assert "stateful=False" in caught.value.fix


def test_a_keras_model_ends_at_a_layer(tmp_path: Path) -> None:
    layers = keras.layers
    path = saved(
        tmp_path, layers.Dense(4, name="first"), layers.Dense(2, name="second"), shape=(3,)
    )
    graph = opened(path, "keras", outputs=("first",))
    assert edges(graph) == ["x: float32 [batch, 3]", "first: float32 [batch, 4]"]
    converted(graph, tmp_path)


def test_free_dimensions_have_names_people_use(tmp_path: Path) -> None:
    path = saved(tmp_path, keras.layers.Conv2D(2, 3, name="map"), shape=(None, None, 3))
    assert edges(opened(path, "keras")) == [
        "x: float32 [batch, height, width, 3]",
        "map: float32 [batch, height, width, 2]",
    ]


HANDLER = """
def NextAfter(graph, node, name, arguments):
    # One step further than x is x, to seven digits.
    source, result = node.input[0], node.output[0]
    shape, dtype = graph.get_shape(result), graph.get_dtype(result)
    graph.remove_node(node.name)
    graph.make_node("Identity", [source], outputs=[result], shapes=[shape], dtypes=[dtype])
"""


@pytest.fixture
def next_after(tmp_path: Path) -> Path:
    """A SavedModel with an operator that ONNX cannot express."""
    function = tf.function(
        lambda x: {"y": tf.math.nextafter(x, 9.0) * 2.0},
        input_signature=[tf.TensorSpec([None, 3], name="x")],
    )
    return export(tmp_path, function)


def test_what_tf2onnx_does_not_know_is_listed_with_ways_out(
    next_after: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError) as caught:
        converted(opened(next_after, "savedmodel"), tmp_path)
    assert "NextAfter ×1 (" in caught.value.cause
    assert "--op-handler NextAfter=module:function" in caught.value.fix


@pytest.mark.parametrize("option", ["{}:NextAfter", "NextAfter={}:NextAfter"])
def test_a_handler_of_the_users_own_converts_it(
    next_after: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    name = f"handlers_{abs(hash(option))}"
    (tmp_path / f"{name}.py").write_text(HANDLER)
    monkeypatch.syspath_prepend(str(tmp_path))
    graph = opened(next_after, "savedmodel")
    convert(graph, tmp_path / "y.onnx", load_handlers([option.format(name)]))
    assert (tmp_path / "y.onnx").is_file()


def test_seeds_that_inference_does_not_read_are_no_state(tmp_path: Path) -> None:
    path = saved(tmp_path, keras.layers.GRU(3, recurrent_dropout=0.2), shape=(4, 2))
    converted(opened(path, "keras"), tmp_path)


def test_a_layer_that_takes_no_free_size_is_told_and_takes_the_users(tmp_path: Path) -> None:
    layer = keras.layers.AdaptiveAveragePooling2D(4)
    path = saved(tmp_path, layer, shape=(None, None, 3))
    with pytest.raises(ModelError, match="dimensions must be statically known") as caught:
        opened(path, "keras")
    assert "--shape x=SIZES" in caught.value.fix
    graph = opened(path, "keras", shapes=(("x", (1, 8, 8, 3)),))
    assert edges(graph)[0] == "x: float32 [1, 8, 8, 3]"
    converted(graph, tmp_path)
