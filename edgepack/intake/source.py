"""A trained model in the user's own format: what goes in, what comes out, and what it answers."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from edgepack.artifact import ModelFile, TensorSpec
from edgepack.errors import ModelError
from edgepack.prove.engine import Answers, Tensors


class Source(Protocol):
    """A model that has been opened. Close it when done: it may hold a process.

    Attributes:
        format: "keras", "keras-hdf5", "savedmodel" or "onnx".
        framework: what answers, with versions.
        beside: files that belong to the model beside the one that was given (ONNX's external data).
        inputs, outputs: free dimensions have names; the first one is `batch`.
    """

    @property
    def format(self) -> str: ...
    @property
    def framework(self) -> str: ...
    @property
    def beside(self) -> tuple[Path, ...]: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        """Write the model as ONNX at `path`; also what the converter said, line by line."""
        ...

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        """The source framework's outputs for each feed."""
        ...

    def close(self) -> None:
        """End whatever it holds."""
        ...


def detect_format(path: Path) -> str:
    """The model's format, told from its content.

    Raises:
        ModelError: there is nothing at `path`, or it is no model this version reads; says what it looks like.
    """
    if path.is_dir():
        if (path / "saved_model.pb").is_file():
            return "savedmodel"
        raise ModelError(
            f"{path} is a folder without saved_model.pb", "give a SavedModel folder or a model file"
        )
    if not path.is_file():
        raise ModelError(f"{path}: no such file", "check the path")
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check who may read it") from error
    if not head:
        raise ModelError(f"{path} is empty", "export the model again")
    if head.startswith(b"PK\x03\x04"):
        return "keras"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras-hdf5"
    if head[4:8] == b"TFL3":
        raise ModelError(
            f"{path} is a TFLite model, which this version does not read yet",
            "give the Keras model or SavedModel it was made from",
        )
    if head[4:8] == b"ORTM":
        raise ModelError(
            f"{path} is an ORT-format model, already compiled for a runtime",
            "give the ONNX or Keras model it was made from",
        )
    if head[0] == 0x08:  # field 1 (ir_version) of ModelProto, as every writer puts it first
        return "onnx"
    looks = "text" if _is_text(head) else "no model format that is known"
    raise ModelError(
        f"{path} does not look like a model: its content is {looks}",
        "formats: .keras, .h5/.hdf5 (Keras), a SavedModel folder, .onnx",
    )


def open_source(path: Path, folder: Path) -> Source:
    """Open the model at `path`; files it needs on the way go into `folder`.

    Raises:
        ModelError: it cannot be read; says why.
        EnvironmentMissing: TensorFlow is needed and not installed.
    """
    form = detect_format(path)
    if form == "onnx":
        from edgepack.intake.onnx_source import OnnxSource

        return OnnxSource(path)
    from edgepack.intake.tensorflow_source import TensorFlowSource

    return TensorFlowSource(path, form, folder)


def _is_text(head: bytes) -> bool:
    try:
        # The last letter may be cut in two.
        text, _ = codecs.utf_8_decode(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c.isspace() for c in text)
