"""A Keras model written in each format that people hand over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo.weights import feeds


def save(model: Any, path: Path, form: str, tflite: str = "") -> None:
    """Write `model` at `path`: `.keras`, Keras 2's HDF5, a SavedModel for serving, a frozen graph, or TFLite."""
    writers: dict[str, Callable[[Any, Path], None]] = {
        "keras": lambda m, p: m.save(p),
        "keras-hdf5": lambda m, p: m.save(p),
        "savedmodel": lambda m, p: m.export(p, format="tf_saved_model", verbose=False),
        "graphdef": _frozen,
        "tflite": lambda m, p: _tflite(m, p, tflite or "float"),
    }
    writers[form](model, path)


def _frozen(model: Any, path: Path) -> None:
    """A GraphDef with its variables as constants, as TF 1's freeze_graph leaves it."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec(t.shape, t.dtype, name=t.name) for t in model.inputs]
    function = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x), training=False))
    frozen = convert_variables_to_constants_v2(function.get_concrete_function(*specs))
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString(deterministic=True))


def _tflite(model: Any, path: Path, kind: str) -> None:
    """TFLite's converter; int8 keeps float inputs and outputs, calibrated with random batches."""
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "fp16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        converter.representative_dataset = lambda: _batches(model)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    path.write_bytes(converter.convert())


def _batches(model: Any) -> Iterator[list[np.ndarray]]:
    rng = np.random.default_rng(0)
    for _ in range(20):
        yield feeds(model, rng, 1, span=1.0)
