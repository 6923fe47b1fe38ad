"""The child's side of an ONNX file: onnxruntime runs it, with every optimization off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.prove.engine import open_session, run_session


class OnnxChild:
    """An ONNX file that is open in onnxruntime. What goes in and out is known from the file itself (onnx_source.py)."""

    framework = "onnxruntime"
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

    def __init__(self, path: Path) -> None:
        """Raises StepError: onnxruntime cannot open it."""
        self._name = path.name
        self._session = open_session(path, optimize=False)

    def convert(self, path: Path) -> None:
        """Never asked for: it is ONNX already."""
        raise NotImplementedError

    def answer(self, feeds: Path, answers: Path) -> None:
        """As `ChildModel.answer`; both files have the arrays' names in `names`."""
        write_named(answers, run_session(self._session, self._name, read_named(feeds)))


def write_named(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write arrays under any names; those of a .npz file's entries must be legal in a zip archive."""
    np.savez(path, *arrays.values(), names=np.array(list(arrays), dtype=str))


def read_named(path: Path) -> dict[str, NDArray[Any]]:
    """What `write_named` wrote."""
    with np.load(path) as loaded:
        return {str(name): loaded[f"arr_{i}"] for i, name in enumerate(loaded["names"])}
