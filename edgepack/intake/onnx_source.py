"""ONNX in: the source framework is onnxruntime itself, with every optimization off."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import onnxruntime

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.errors import ModelError
from edgepack.intake.canonical import name_free_dims, refuse_leftovers
from edgepack.prove.engine import Answers, Tensors, answers


class OnnxSource:
    """A checked ONNX file."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        """Raises ModelError: not a valid ONNX model, or its external data lie outside its folder."""
        self._path = path
        self.framework = f"onnxruntime {onnxruntime.__version__}"
        try:
            self._proto = onnx.load(path, load_external_data=False)
            self.beside = onnxfile.external_files(self._proto, path.parent)
            onnx.load_external_data_for_model(self._proto, str(path.parent))
            onnx.checker.check_model(self._proto)
        except Exception as error:  # onnx raises protobuf's, its own and OS errors
            raise ModelError(
                f"{path} is not a valid ONNX model: {error}", "export the model again"
            ) from error
        refuse_leftovers(self._proto)
        name_free_dims(self._proto)
        wrapped = onnxfile.wrap(self._proto, path)
        self.inputs, self.outputs = wrapped.inputs, wrapped.outputs
        if not self.inputs:
            raise ModelError(f"{path} has no inputs", "give a model with at least one input")

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        onnxfile.trim(self._proto)
        return onnxfile.save(self._proto, path), ()

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        return answers(self._path, feeds, optimize=False)

    def close(self) -> None:
        """Nothing is held."""
