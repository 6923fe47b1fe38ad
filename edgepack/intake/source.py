"""A trained model in the user's own format: what goes in, what comes out, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edgepack.artifact import ModelFile, TensorSpec
from edgepack.intake.detect import detect_format
from edgepack.intake.request import IntakeRequest
from edgepack.prove.engine import Answers, Tensors


class Source(Protocol):
    """A model that has been opened. Close it when done: it may hold a process.

    Attributes:
        format: as `detect_format` has it.
        path: the file or folder that holds the model.
        framework: what answers, with versions.
        beside: files that belong to the model beside the one that was given (ONNX's external data).
        inputs, outputs: free dimensions have names; the first one is `batch`.
        rounding: by output, how far off the source's own answers may be for its own quantization, in the output's unit; known
            once it has answered.
        guards: what confines the process that answers, known once it has answered.
    """

    @property
    def format(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def framework(self) -> str: ...
    @property
    def beside(self) -> tuple[Path, ...]: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def rounding(self) -> Mapping[str, float]: ...
    @property
    def guards(self) -> tuple[str, ...]: ...

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        """Write the model as ONNX at `path`; also what the converter said, line by line."""
        ...

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        """The source framework's outputs for each feed."""
        ...

    def close(self) -> None:
        """End whatever it holds."""
        ...


def open_source(path: Path, folder: Path, request: IntakeRequest | None = None) -> Source:
    """Open the model at `path`; files it needs on the way go into `folder`.

    Raises:
        ModelError: it cannot be read, or has no such part as the request names; says why.
        EnvironmentMissing: TensorFlow is needed and not installed.
    """
    request = request or IntakeRequest()
    form = detect_format(path)
    if form == "onnx":
        from edgepack.intake.onnx_source import OnnxSource

        source: Source = OnnxSource(path, request, folder)
    else:
        from edgepack.intake.child_source import ChildSource

        source = ChildSource(path, form, folder, request)
    if request.layout is None:
        return source
    from edgepack.intake.layout import LaidOutSource

    return LaidOutSource(source, request.layout)
