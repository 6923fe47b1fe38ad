"""TFLite's own answers: tf.lite.Interpreter on a flatbuffer."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Interpreter:
    """An interpreter of one flatbuffer's subgraph 0, on one thread, with TFLite's optimized kernels and no delegate.

    Of the three sets of kernels these are the closest to float64 on MediaPipe's models (hand_landmark_lite: 3e-5 off, where
    BUILTIN_REF and XNNPACK are 9e-5 off; pose_landmark_full: 4.7 tolerances, 5.1 and 6.7), and ten times as fast as BUILTIN_REF.
    """

    def __init__(self, content: bytes) -> None:
        """Raises ValueError or RuntimeError: TFLite cannot prepare the model."""
        import tensorflow as tf

        with warnings.catch_warnings():
            # TensorFlow 2.20 announces that the interpreter moves to ai-edge-litert; it is there in 2.21 still.
            warnings.simplefilter("ignore")
            self._interpreter = tf.lite.Interpreter(
                model_content=content,
                num_threads=1,
                experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            )
        self._shapes: list[tuple[int, ...]] | None = None

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        """Outputs in the order of the subgraph, for inputs in its order. State is fresh in every run."""
        details = self._interpreter.get_input_details()
        shapes = [f.shape for f in feeds]
        if self._shapes != shapes:
            for detail, feed in zip(details, feeds, strict=True):
                if tuple(detail["shape"]) != feed.shape:
                    self._interpreter.resize_tensor_input(detail["index"], feed.shape)
            self._interpreter.allocate_tensors()
            self._shapes = shapes
        self._interpreter.reset_all_variables()
        for detail, feed in zip(details, feeds, strict=True):
            self._interpreter.set_tensor(detail["index"], feed)
        self._interpreter.invoke()
        outputs = self._interpreter.get_output_details()
        return [np.array(self._interpreter.get_tensor(d["index"])) for d in outputs]
