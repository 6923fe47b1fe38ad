"""ONNX in: the source framework is onnxruntime itself, with every optimization off."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnxruntime

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.errors import ModelError
from edgepack.intake.canonical import name_free_dims
from edgepack.intake.leftovers import refuse_leftovers
from edgepack.intake.onnx_checks import OLDEST_OPSET, UPDATED_OPSET, open_checked, plain, updated
from edgepack.prove.engine import Answers, Tensors, answers


class OnnxSource:
    """A checked ONNX file."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        """Raises ModelError: not a valid ONNX model, or its external data lie outside its folder."""
        self.path = path
        self.rounding: Mapping[str, float] = {}
        self.framework = f"onnxruntime {onnxruntime.__version__}"
        self._proto = open_checked(path)
        #: What answers: the file itself, or, if it is too old for onnxruntime, what it was converted to.
        self._runs: Path | None = path
        if 0 < onnxfile.opset(self._proto) < OLDEST_OPSET:
            self._runs = None
            self.framework += f" (operator set {onnxfile.opset(self._proto)} as {UPDATED_OPSET})"
        self.beside = onnxfile.external_files(self._proto, path)
        refuse_leftovers(self._proto)
        name_free_dims(self._proto)
        wrapped = onnxfile.wrap(self._proto, path)
        self.inputs, self.outputs = wrapped.inputs, wrapped.outputs
        if not self.inputs:
            raise ModelError(f"{path} has no inputs", "give a model with at least one input")

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        proto = plain(copy.deepcopy(self._proto), self.path.parent)
        if self._runs is None:
            proto = updated(proto, self.path)
        onnxfile.trim(proto)
        made = onnxfile.save(proto, path, folder=self.path.parent)
        self._runs = self._runs or made.path
        return made, ()

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        if self._runs is None:
            raise ValueError("a file of so old an operator set answers once it was converted")
        return answers(self._runs, feeds, optimize=False)

    def close(self) -> None:
        """Nothing is held."""
