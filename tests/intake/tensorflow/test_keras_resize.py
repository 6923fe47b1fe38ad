"""Keras models that resize images of a free height and width."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from edgepack.intake.tensorflow.keras_resize import sizes_at_run_time
from edgepack.prove.engine import answers
from tests.intake.tensorflow.proof import converted, opened


@keras.saving.register_keras_serializable("tests")
class Doubled(keras.layers.Layer):  # type: ignore[misc]
    """A layer of a user's own that names the public function."""

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], None, None, shape[3])

    def call(self, x: Any) -> Any:
        _, height, width, _ = keras.ops.shape(x)
        return keras.ops.image.resize(x, (height * 2, width * 2))


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.UpSampling2D((2, 3), interpolation="bilinear"),
        keras.layers.UpSampling2D(2, interpolation="bicubic"),
        keras.layers.UpSampling2D(2, "channels_first", interpolation="bilinear"),
        Doubled(),
    ],
    ids=["bilinear", "bicubic", "channels_first", "own"],
)
def test_images_of_any_size_are_enlarged(layer: Any, tmp_path: Path) -> None:
    image = keras.Input((None, None, 3), name="image")
    path = tmp_path / "model.keras"
    keras.Model(image, layer(image)).save(path)
    graph = opened(path, "keras")
    converted(graph, tmp_path)
    for shape in ((1, 5, 8, 3), (2, 12, 7, 3)):
        x = np.random.default_rng(1).random(shape, np.float32)
        (given,) = answers(tmp_path / "converted.onnx", [{"image": x}])
        np.testing.assert_allclose(
            next(iter(given.values())), graph.run([x])[0], atol=1e-5, rtol=1e-5
        )


def test_keras_is_left_as_it_was() -> None:
    before = keras.ops.image.resize
    with suppress(RuntimeError), sizes_at_run_time():
        assert keras.ops.image.resize is not before
        raise RuntimeError
    assert keras.ops.image.resize is before
