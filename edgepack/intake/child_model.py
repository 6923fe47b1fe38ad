"""The child's side: a model of any format, behind one face."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from edgepack.artifact import TensorSpec
from edgepack.intake.request import IntakeRequest


class ChildModel(Protocol):
    """A model that is open in this process."""

    @property
    def framework(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def convert(self, path: Path) -> None:
        """Write the model as ONNX at `path`."""
        ...

    def answer(self, feeds: Path, answers: Path) -> None:
        """Run the arrays of one .npz through the model into another, both by position."""
        ...


def open_model(path: Path, form: str, request: IntakeRequest) -> ChildModel:
    """The model at `path`, in the part the request asks for.

    Raises:
        ModelError: it cannot be read or has no such part; says why.
    """
    if form == "onnx":
        from edgepack.intake.onnx_child import OnnxChild

        return OnnxChild(path)
    import tensorflow as tf

    from edgepack.intake.tensorflow.handlers import HANDLERS
    from edgepack.intake.tensorflow.plugins import load_handlers

    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(0)
    handlers = {**HANDLERS, **load_handlers(request.op_handlers)}
    if form == "tflite":
        from edgepack.intake.tflite.model import open_tflite

        return open_tflite(path, request, handlers)
    from edgepack.intake.tensorflow.model import TensorFlowModel, open_graph

    return TensorFlowModel(open_graph(path, form, request), handlers)
