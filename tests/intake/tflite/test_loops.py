"""WHILE answers in ONNX as TFLite's interpreter does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tests.intake.tflite.build import both, convert


def test_a_loop_over_the_second_of_another_loops_outputs_answers_the_same(tmp_path: Path) -> None:
    """The first output is a scalar; the second loop gathers from the other one, which has rank 2."""

    def twice(x: Any) -> Any:
        def more(i: Any, y: Any) -> tuple[Any, Any]:
            return i + 1, tf.sin(y) + 0.5 * x

        def add(i: Any, total: Any, y: Any) -> tuple[Any, Any, Any]:
            return i + 1, total + tf.gather(y, i), y

        _, y = tf.while_loop(lambda i, y: i < 3, more, (0, x))
        start = (0, tf.zeros(3), y)
        return tf.while_loop(lambda i, total, y: i < 4, add, start)[1]

    path = tmp_path / "m.tflite"
    path.write_bytes(convert(twice, (4, 3)))
    feed = np.random.default_rng(2).standard_normal((4, 3)).astype(np.float32)
    _, want, got = both(path, [feed])
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5, atol=1e-6)
