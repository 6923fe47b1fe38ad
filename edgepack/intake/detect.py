"""A model's format, told from its content: a bounded number of bytes is read, and no framework is loaded."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import ModelError
from edgepack.intake.checkpoint_files import checkpoint_graph, is_checkpoint, is_table
from edgepack.intake.foreign import FOLDERS, FORMATS, MESSAGES, foreign_kind, zip_kind
from edgepack.intake.vet.zip_entries import open_zip
from edgepack.intake.wire import message_kind

_HEAD = 4096
_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
#: Text protobufs begin with a field's name. Fields of graph.proto, saved_model.proto, meta_graph.proto.
_TEXT_GRAPH = re.compile(rb"(\s*#[^\n]*\n)*\s*(node|versions|library)\s*:?\s*\{")
_TEXT_SAVED_MODEL = re.compile(
    rb"(\s*#[^\n]*\n)*\s*(saved_model_schema_version\s*:|meta_graphs\s*\{)"
)
_TEXT_META = re.compile(rb"(\s*#[^\n]*\n)*\s*(meta_info_def|graph_def|saver_def)\s*\{")


def detect_format(path: Path) -> str:
    """ "keras", "keras-hdf5", "savedmodel", "graphdef", "checkpoint", "tflite" or "onnx"; names and suffixes do not count.

    A SavedModel is its folder, or the saved_model.pb in it; a checkpoint its folder, its prefix, or one of its files. `framework_path`
    gives what the framework opens.

    Raises:
        ModelError: there is nothing at `path`, or it is no model this version reads; says what it looks like.
    """
    if path.is_dir():
        return _folder_format(path)
    if not path.is_file():
        if path.exists():
            raise ModelError(f"{path} is a device or a pipe, not a file", FORMATS)
        if is_checkpoint(path):
            return _checkpoint(path)
        raise ModelError(f"{path}: no such file", "check the path")
    try:
        with path.open("rb") as file:
            return _file_format(path, file)
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check who may read it") from error


def framework_path(path: Path, form: str) -> Path:
    """What the framework opens: a SavedModel's folder, a checkpoint's .meta, else the file itself.

    Raises:
        ModelError: a checkpoint's files are not all there.
    """
    if form == "savedmodel" and not path.is_dir():
        return path.parent
    return checkpoint_graph(path) if form == "checkpoint" else path


def _checkpoint(path: Path) -> str:
    checkpoint_graph(path)
    return "checkpoint"


def _file_format(path: Path, file: BinaryIO) -> str:
    head = file.read(_HEAD)
    if not head:
        raise ModelError(f"{path} is empty", "export the model again")
    if head.startswith(b"PK\x03\x04"):
        return _zip_format(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "keras-hdf5"
    if head[4:8] == b"TFL3":
        return "tflite"
    if is_table(file) or (is_checkpoint(path) and ".data-" in path.name):
        return _checkpoint(path)
    text = _is_text(head)
    # The first bytes of a protobuf may well be text; those of a text are seldom a protobuf.
    form = _text_format(path, head) if text else None
    if form is None:
        foreign = foreign_kind(head, text=text)
        if foreign is not None:
            raise ModelError(f"{path} is {foreign.looks}", foreign.fix)
        form = _protobuf_format(path, file)
    if form is None:
        looks = "text" if text else "no model format that is known"
        raise ModelError(f"{path} does not look like a model: its content is {looks}", FORMATS)
    return form


def _zip_format(path: Path) -> str:
    with open_zip(path) as archive:
        names = archive.namelist()
    if {"config.json", "metadata.json"} <= set(names):
        return "keras"
    looks, fix = zip_kind(names)
    raise ModelError(f"{path} is {looks}", fix)


def _text_format(path: Path, head: bytes) -> str | None:
    if path.name == "checkpoint" and b"model_checkpoint_path" in head:
        return _checkpoint(path.parent)
    if _TEXT_SAVED_MODEL.match(head):
        return _saved_model_file(path)
    if _TEXT_META.match(head):
        raise ModelError(
            f"{path} is a TensorFlow MetaGraph in text", "give the checkpoint with its binary .meta"
        )
    return "graphdef" if _TEXT_GRAPH.match(head) else None


def _protobuf_format(path: Path, file: BinaryIO) -> str | None:
    kind = message_kind(file, file.seek(0, 2))
    if kind == "savedmodel":
        return _saved_model_file(path)
    if kind == "metagraph":
        return _checkpoint(path)
    if kind in MESSAGES:
        looks, fix = MESSAGES[kind]
        raise ModelError(f"{path} is {looks}", fix)
    return kind


def _saved_model_file(path: Path) -> str:
    if path.name in _SAVED_MODEL:
        return "savedmodel"
    raise ModelError(
        f"{path} is the graph of a SavedModel without its folder",
        "give the folder that holds saved_model.pb and variables/",
    )


def _folder_format(path: Path) -> str:
    try:
        names = {p.name for p, _ in zip(path.iterdir(), range(10_000), strict=False)}
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}", "check who may read it") from error
    if any((path / name).is_file() for name in _SAVED_MODEL):
        return "savedmodel"
    if is_checkpoint(path):
        return _checkpoint(path)
    if not names:
        raise ModelError(f"{path} is an empty folder", "give a SavedModel folder or a model file")
    for name, looks, fix in FOLDERS:
        if name in names:
            raise ModelError(f"{path} is {looks}", fix)
    inside = sorted(n for n in names if any((path / n / s).is_file() for s in _SAVED_MODEL))
    models = sorted(
        n for n in names if n.endswith((".keras", ".h5", ".hdf5", ".tflite", ".onnx", ".pb"))
    )
    if inside or models:
        raise ModelError(
            f"{path} is a folder without saved_model.pb; inside are {', '.join([*inside, *models][:5])}",
            f"give {path / [*inside, *models][0]}",
        )
    raise ModelError(
        f"{path} is a folder without saved_model.pb", "give a SavedModel folder or a model file"
    )


def _is_text(head: bytes) -> bool:
    try:
        # The last letter may be cut in two.
        text, _ = codecs.utf_8_decode(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return all(c.isprintable() or c.isspace() for c in text.removeprefix("\ufeff"))
