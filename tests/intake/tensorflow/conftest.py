"""Models in TensorFlow's own older forms, written once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small TF 1 network as checkpoint/model, saved/ and frozen.pb.

    `images` [?, 8, 8, 3] and `is_training` to `probs` [?, 4], with dropout in training. The checkpoint holds its loss, too.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    folder = tmp_path_factory.mktemp("old")
    (folder / "checkpoint").mkdir()
    with tf.Graph().as_default() as graph, v1.Session() as session:
        v1.set_random_seed(3)
        x = v1.placeholder(tf.float32, [None, 8, 8, 3], name="images")
        training = v1.placeholder(tf.bool, [], name="is_training")
        kernel = v1.get_variable("kernel", [3, 3, 3, 4], use_resource=False)
        bias = v1.get_variable("bias", [4], use_resource=True)
        y = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias, name="features")
        y = tf.cond(training, lambda: tf.nn.dropout(y, rate=0.5), lambda: y)
        y = tf.nn.softmax(tf.reduce_mean(y, [1, 2]), name="probs")
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(
            session, str(folder / "saved"), {"images": x, "training": training}, {"probs": y}
        )
        frozen = v1.graph_util.convert_variables_to_constants(
            session, graph.as_graph_def(), ["probs"]
        )
        (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
        labels = v1.placeholder(tf.float32, [None, 4], name="labels")
        tf.reduce_mean((y - labels) ** 2, name="loss")
        v1.train.Saver().save(session, str(folder / "checkpoint" / "model"))
    return folder
