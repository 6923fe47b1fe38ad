"""Frozen graphs, checkpoints and SavedModels of TF 1 and 2: found ends, their names, and what the user may ask for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from edgepack.errors import ModelError, UsageError
from edgepack.intake.tensorflow.ends import clean_key
from edgepack.intake.tensorflow.graph_def import seed
from tests.intake.tensorflow.proof import converted, edges, opened, operators

_QUIET = "images,is_training=false"
IMAGES = "images: float32 [batch, 8, 8, 3]"
PROBS = "probs: float32 [batch, 4]"


def test_a_frozen_graphs_ends_are_found(old: Path) -> None:
    graph = opened(old / "frozen.pb", "graphdef")
    assert edges(graph) == [IMAGES, "is_training: bool []", PROBS]


@pytest.mark.parametrize("value", ["false", "False", "0"])
def test_an_input_can_be_fixed_to_a_value(old: Path, tmp_path: Path, value: str) -> None:
    graph = opened(old / "frozen.pb", "graphdef", inputs=("images", f"is_training={value}"))
    assert edges(graph) == [IMAGES, PROBS]
    converted(graph, tmp_path)


@pytest.mark.parametrize(
    ("form", "place"),
    [("checkpoint", "checkpoint/model.meta"), ("savedmodel", "saved"), ("graphdef", "frozen.pb")],
)
def test_every_old_form_converts(old: Path, tmp_path: Path, form: str, place: str) -> None:
    training = "training" if form == "savedmodel" else "is_training"
    graph = opened(old / place, form, inputs=("images", f"{training}=false"), outputs=("probs",))
    assert edges(graph) == [IMAGES, PROBS]
    assert "Conv" in operators(converted(graph, tmp_path))


def test_a_part_of_a_graph_ends_where_asked(old: Path, tmp_path: Path) -> None:
    graph = opened(old / "frozen.pb", "graphdef", outputs=("features",))
    assert edges(graph) == [IMAGES, "features: float32 [batch, 8, 8, 4]"]
    converted(graph, tmp_path)


def test_a_part_of_a_graph_begins_where_asked(old: Path, tmp_path: Path) -> None:
    graph = opened(old / "frozen.pb", "graphdef", inputs=("features", "is_training=false"))
    assert edges(graph)[0] == "features: float32 [batch, 8, 8, 4]"
    assert "Conv" not in operators(converted(graph, tmp_path))


def test_inputs_that_were_left_out_are_listed(old: Path) -> None:
    with pytest.raises(ModelError) as caught:
        opened(old / "frozen.pb", "graphdef", inputs=("images",))
    assert "is_training (bool)" in caught.value.cause
    assert "--inputs is_training=VALUE" in caught.value.fix


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        ({"outputs": ("prob",)}, UsageError, "no tensor 'prob'"),
        ({"inputs": ("images", "is_training=perhaps")}, UsageError, "'perhaps' is no bool"),
        ({"signature": "serve"}, UsageError, "has no signatures"),
    ],
)
def test_what_the_graph_does_not_have_is_told(
    old: Path, request_: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        opened(old / "frozen.pb", "graphdef", **request_)


def test_a_training_graphs_ends_are_listed_not_guessed(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], name="x")
        w = v1.get_variable("w", [2, 2], initializer=v1.zeros_initializer())
        y = tf.nn.softmax(x @ w, name="probs")
        loss = tf.reduce_sum((y - x) ** 2) + tf.reduce_sum(w**2, name="penalty")
        v1.train.AdamOptimizer(0.1).minimize(loss)
        tf.argmax(y, axis=1, name="best")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(tmp_path / "model"))
    with pytest.raises(ModelError) as caught:
        opened(tmp_path / "model.meta", "checkpoint")
    assert "the graph has 2 ends" in caught.value.cause
    assert "best" in caught.value.cause
    assert "--outputs" in caught.value.fix


def test_a_nameless_end_is_called_what_it_passes_on(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 2], name="x")
        tf.identity(tf.nn.relu(x, name="net/scores"), name="Identity")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    opened_graph = opened(tmp_path / "g.pb", "graphdef")
    assert edges(opened_graph)[1] == "net/scores: float32 [batch, 2]"
    converted(opened_graph, tmp_path)


def test_a_text_graph_opens(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.nn.relu(tf.compat.v1.placeholder(tf.float32, [None, 2], name="x"), name="y")
    (tmp_path / "g.pbtxt").write_text(str(graph.as_graph_def()))
    assert edges(opened(tmp_path / "g.pbtxt", "graphdef"))[1] == "y: float32 [batch, 2]"


@pytest.fixture(scope="module")
def signatures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SavedModel with the signatures `double` and `halve`, and a variable that neither reads."""

    class Both(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = tf.Variable(2.0)
            self.unused = tf.Variable(tf.zeros([300, 300]))

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def double(self, x):
            return {"twice": x * self.factor}

        @tf.function(input_signature=[tf.TensorSpec([None, 3], name="x")])
        def halve(self, x):
            return {"half": x / self.factor, "again": x / self.factor}

    folder = tmp_path_factory.mktemp("signatures") / "both"
    module = Both()
    tf.saved_model.save(
        module, str(folder), signatures={"double": module.double, "halve": module.halve}
    )
    return folder


def test_a_signature_is_chosen(signatures: Path, tmp_path: Path) -> None:
    graph = opened(signatures, "savedmodel", signature="halve")
    assert [s.name for s in graph.outputs] == ["again", "half"]
    converted(graph, tmp_path)


def test_of_several_signatures_none_is_guessed(signatures: Path) -> None:
    with pytest.raises(UsageError) as caught:
        opened(signatures, "savedmodel")
    assert "double, halve" in caught.value.cause
    assert caught.value.fix == "choose one: --signature double"


def test_a_missing_signature_is_told(signatures: Path) -> None:
    with pytest.raises(UsageError, match="no signature 'third'") as caught:
        opened(signatures, "savedmodel", signature="third")
    assert "double, halve" in caught.value.fix


def test_names_that_an_exporter_made_up_are_replaced() -> None:
    assert clean_key("keras_tensor_5", "input") == "input"
    assert clean_key("Identity", "output") == "output"
    assert clean_key("my_keras_tensor", "input") == "my_keras_tensor"


def test_text_inputs_are_refused_with_their_name(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        text = tf.compat.v1.placeholder(tf.string, [None], name="sentence")
        tf.strings.length(text, name="length")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    graph = opened(tmp_path / "g.pb", "graphdef")
    with pytest.raises(ModelError, match="sentence is of type string") as caught:
        _ = graph.inputs
    assert "--inputs" in caught.value.fix


def test_text_can_be_cut_off(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        text = tf.compat.v1.placeholder(tf.string, [None], name="sentence")
        length = tf.strings.length(text, name="length")
        tf.cast(length, tf.float32, name="score")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    part = opened(tmp_path / "g.pb", "graphdef", inputs=("length",))
    assert edges(part) == ["length: int32 [batch]", "score: float32 [batch]"]
    converted(part, tmp_path)


def test_an_unknown_rank_asks_for_a_shape(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.nn.relu(tf.compat.v1.placeholder(tf.float32, None, name="x"), name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    graph = opened(tmp_path / "g.pb", "graphdef")
    with pytest.raises(ModelError, match="x has no known rank"):
        _ = graph.inputs


def test_a_feed_that_a_session_gets_is_the_models_own(old: Path) -> None:
    graph = opened(old / "frozen.pb", "graphdef", inputs=("images", "is_training=false"))
    image = np.zeros((2, 8, 8, 3), np.float32)
    (answer,) = graph.run([image])
    np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-6)


def test_an_unknown_rank_is_taken_from_the_shape_asked_for(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        tf.nn.relu(tf.compat.v1.placeholder(tf.float32, None, name="x"), name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    opened_graph = opened(tmp_path / "g.pb", "graphdef", shapes=(("x", (2, "?")),))
    assert edges(opened_graph) == ["x: float32 [2, time]", "y: float32 [batch, time]"]
    converted(opened_graph, tmp_path)


def test_an_unknown_rank_of_an_output_is_found_by_asking(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None, 3], name="x")
        shape = tf.compat.v1.placeholder_with_default(tf.constant([-1, 1, 3]), None)
        tf.reshape(x, shape, name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    opened_graph = opened(tmp_path / "g.pb", "graphdef")
    assert edges(opened_graph)[1] == "y: float32 [batch, time, y_dim2]"


def test_random_operators_without_a_seed_get_one() -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None, 3], name="x")
        v1.nn.dropout(x, rate=0.5)
        v1.random_uniform([2], seed=7)
    graph_def = graph.as_graph_def()
    seed(graph_def)
    seeds = {n.attr["seed"].i for n in graph_def.node if n.op == "RandomUniform"}
    assert len(seeds) == 2
    assert 0 not in seeds


def test_the_sides_of_an_old_cond_are_no_ends(tmp_path: Path) -> None:
    v1 = tf.compat.v1
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [1, 6], name="x")
        positive = tf.reduce_sum(x) > 0.0
        no, yes = (tf.raw_ops.Switch(data=x, pred=positive)[i] for i in (0, 1))
        side = tf.identity(tf.raw_ops.Switch(data=positive, pred=positive)[1], name="side")
        with tf.control_dependencies([side]):
            two = tf.constant(2.0)
        tf.raw_ops.Merge(inputs=[no, yes * two], name="merge")
        tf.identity(graph.get_tensor_by_name("merge:0"), name="y")
    (tmp_path / "g.pb").write_bytes(graph.as_graph_def().SerializeToString())
    frozen = opened(tmp_path / "g.pb", "graphdef")
    assert [s.name for s in frozen.outputs] == ["y"]
