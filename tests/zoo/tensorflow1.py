"""Models as TensorFlow 1 left them, written with today's `tf.compat.v1`: graphs with variables, placeholders and no Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1


def checkpoint(path: Path) -> None:
    """`tf.train.Saver`'s four files; `path` is the `.meta`. A CNN with batch normalization and training nodes beside it."""
    with v1.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, 28, 28, 1], name="image")
        logits = _cnn(image)
        v1.nn.softmax(logits, name="probabilities")
        session.run(v1.global_variables_initializer())
        v1.train.Saver().save(session, str(path.with_suffix("")))


def saved_model(path: Path) -> None:
    """`simple_save` of a graph with variables: the tag `serve`, one signature, ref-less resource variables off."""
    with v1.Graph().as_default(), v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, 28, 28, 1], name="image")
        probabilities = v1.nn.softmax(_cnn(image))
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"image": image}, {"digit": probabilities})


def two_signatures(path: Path) -> None:
    """A SavedModel with the signatures `embed` and `classify`, and no `serving_default`."""
    with v1.Graph().as_default(), v1.Session() as session:
        words = v1.placeholder(tf.int32, [None, 12], name="words")
        table = _variable("table", [40, 8], 0.5)
        vector = tf.reduce_mean(tf.gather(table, words), axis=1)
        logits = tf.matmul(vector, _variable("kernel", [8, 3], 0.5))
        session.run(v1.global_variables_initializer())
        build, define = v1.saved_model.build_tensor_info, v1.saved_model.build_signature_def
        name = "tensorflow/serving/predict"
        builder = v1.saved_model.Builder(str(path))
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {
                "embed": define({"words": build(words)}, {"vector": build(vector)}, name),
                "classify": define({"words": build(words)}, {"logits": build(logits)}, name),
            },
        )
        builder.save()


def frozen_control_flow(path: Path) -> None:
    """A frozen graph with TF 1's own `Switch`/`Merge` (cond) and `Enter`/`Exit` (while) nodes."""
    v1.disable_control_flow_v2()
    with v1.Graph().as_default() as graph, v1.Session() as session:
        x = v1.placeholder(tf.float32, [1, 6], name="x")
        y = v1.cond(tf.reduce_sum(x) > 3.0, lambda: x * 2.0, lambda: x - 1.0)
        _, total = v1.while_loop(
            lambda i, _: i < 5, lambda i, t: (i + 1, tf.tanh(t) + x), (tf.constant(0), y)
        )
        tf.identity(total, name="total")
        path.write_bytes(_frozen(session, graph, ["total"]))


def frozen_cnn(path: Path) -> None:
    """freeze_graph's result for a TF 1 CNN: FusedBatchNorm of the first version, an LRN, a dropout left in."""
    with v1.Graph().as_default() as graph, v1.Session() as session:
        image = v1.placeholder(tf.float32, [None, 32, 32, 3], name="image")
        x = tf.nn.relu(tf.nn.conv2d(image, _variable("stem", [5, 5, 3, 16], 0.2), 2, "SAME"))
        x = tf.nn.local_response_normalization(x, depth_radius=2, bias=1.0, alpha=0.1, beta=0.75)
        scale, shift, mean = (_variable(n, [16], 0.2) for n in ("scale", "shift", "mean"))
        x = v1.nn.fused_batch_norm(x, scale + 1.0, shift, mean, scale + 1.5, is_training=False)[0]
        keep = v1.placeholder_with_default(1.0, [], name="keep")
        x = v1.nn.dropout(tf.reduce_mean(x, axis=[1, 2]), keep_prob=keep)
        tf.matmul(x, _variable("head", [16, 10], 0.5), name="logits")
        session.run(v1.global_variables_initializer())
        path.write_bytes(_frozen(session, graph, ["logits"]))


def string_saved_model(path: Path) -> None:
    """Text in, text's length and a score out: strings are no tensors on a device."""

    class Reader(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
        def read(self, text: Any) -> dict[str, Any]:
            size = tf.cast(tf.strings.length(text), tf.float32)
            return {"score": tf.sigmoid(size * 0.1 - 1.0)}

    reader = Reader()
    tf.saved_model.save(reader, str(path), signatures={"serving_default": reader.read})


def module_saved_model(path: Path) -> None:
    """A tf.Module of TF 2 without Keras: a while loop, a lookup in a captured constant, two outputs by name."""

    class Decoder(tf.Module):
        def __init__(self) -> None:
            self.kernel = tf.Variable(_numbers("decoder", [8, 8], 0.3))
            self.codes = tf.constant(_numbers("codes", [10, 8], 1.0))

        @tf.function(input_signature=[tf.TensorSpec([None, 8], tf.float32, name="start")])
        def decode(self, start: Any) -> dict[str, Any]:
            state = start
            for _ in tf.range(4):
                state = tf.nn.tanh(state @ self.kernel + state)
            distance = tf.reduce_sum((state[:, None] - self.codes) ** 2, axis=-1)
            return {"state": state, "code": tf.argmin(distance, axis=-1, output_type=tf.int32)}

    decoder = Decoder()
    tf.saved_model.save(decoder, str(path), signatures={"serving_default": decoder.decode})


def _cnn(image: Any) -> Any:
    x = tf.nn.conv2d(image, _variable("conv", [5, 5, 1, 12], 0.2), 2, "SAME")
    x = tf.nn.bias_add(x, _variable("bias", [12], 0.1))
    scale, shift = _variable("gamma", [12], 0.2), _variable("beta", [12], 0.2)
    mean, variance = _variable("mean", [12], 0.2), tf.abs(_variable("variance", [12], 0.2)) + 0.5
    x = tf.nn.relu(tf.nn.batch_normalization(x, mean, variance, shift, scale + 1.0, 1e-3))
    x = tf.reshape(tf.nn.max_pool2d(x, 2, 2, "VALID"), [-1, 7 * 7 * 12])
    return tf.matmul(x, _variable("dense", [7 * 7 * 12, 10], 0.1))


def _variable(name: str, shape: list[int], spread: float) -> Any:
    value = _numbers(name, shape, spread)
    return v1.get_variable(name, initializer=value, use_resource=False)


def _numbers(name: str, shape: list[int], spread: float) -> np.ndarray:
    rng = np.random.default_rng(sum(name.encode()))
    return rng.normal(0, spread, shape).astype(np.float32)


def _frozen(session: Any, graph: Any, outputs: list[str]) -> bytes:
    frozen = v1.graph_util.convert_variables_to_constants(session, graph.as_graph_def(), outputs)
    data: bytes = frozen.SerializeToString(deterministic=True)
    return data
