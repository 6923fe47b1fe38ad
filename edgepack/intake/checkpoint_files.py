"""A TensorFlow checkpoint's files: `prefix.index`, `prefix.data-00000-of-00001`, `prefix.meta`, and the text `checkpoint` that names a prefix.

A name in a `checkpoint` file is only looked for in that file's own folder, whatever path it gives: checkpoints travel between machines,
and a foreign one must not make us read elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from edgepack.errors import ModelError

#: The last eight bytes of TensorFlow's tables (tensorflow/core/lib/io/format.h, kTableMagicNumber).
_TABLE = (0xDB4775248B80FB57).to_bytes(8, "little")
_PART = re.compile(r"(.*?)\.(index|meta|data-\d{5}-of-\d{5})")
_NAMED = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_COPY = "copy all files of the checkpoint: .meta, .index and .data-…"


def is_table(file: BinaryIO) -> bool:
    """Whether a file ends like one of TensorFlow's tables (an .index, or a whole checkpoint of the first version)."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    return file.read(8) == _TABLE


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """The name that a checkpoint's files share; it may be empty."""

    folder: Path
    name: str

    def file(self, ending: str) -> Path:
        """One of the checkpoint's files."""
        return self.folder / f"{self.name}{ending}"


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a checkpoint's folder, prefix, or one of its files, told from the files that lie there."""
    if path.is_dir():
        return (path / "checkpoint").is_file() or any(path.glob("*.index"))
    prefix = _prefix_of(path)
    return prefix.file(".index").is_file() or prefix.file(".meta").is_file()


def checkpoint_graph(path: Path) -> Path:
    """The checkpoint's .meta file, beside which all its other files are there.

    Args:
        path: the folder, the prefix, or one of the files.

    Raises:
        ModelError: the weights or the graph (.meta) are missing, or a folder has several checkpoints and does not say which one.
    """
    whole = Prefix(folder=path.parent, name=path.name)
    state = path.name == "checkpoint" and not whole.file(".index").is_file()
    folder = path.parent if state else path
    prefix = _of_folder(folder) if folder.is_dir() else _prefix_of(path)
    # The first version has one file, the prefix itself.
    if not prefix.file(".index").is_file() and not (prefix.name and prefix.file("").is_file()):
        raise ModelError(
            f"{path}: the checkpoint's weights are missing ({prefix.name}.index)",
            f"{_COPY}; the graph alone has no weights",
        )
    if missing := [p.name for p in _shards(prefix) if not p.is_file()]:
        raise ModelError(f"{path}: the checkpoint lacks {', '.join(missing[:5])}", _COPY)
    if not prefix.file(".meta").is_file():
        raise ModelError(
            f"{path} is a TensorFlow checkpoint without a graph: {prefix.name}.meta is missing (checkpoints of "
            "TensorFlow 2 and weights saved with save_weights never have one)",
            "build the model in code, load these weights, and save it whole: model.save('model.keras') or model.export(folder)",
        )
    return prefix.file(".meta")


def weight_files(graph: Path) -> tuple[Path, ...]:
    """The files with the weights of the checkpoint whose .meta is given."""
    prefix = _prefix_of(graph)
    return tuple(p for p in (prefix.file(".index"), *_shards(prefix)) if p.is_file())


def _prefix_of(path: Path) -> Prefix:
    part = _PART.fullmatch(path.name)
    return Prefix(folder=path.parent, name=part[1] if part else path.name)


def _of_folder(folder: Path) -> Prefix:
    """The checkpoint that the folder's `checkpoint` file names, or the only one in it."""
    names = sorted(p.name.removesuffix(".index") for p in folder.glob("*.index"))
    state = folder / "checkpoint"
    if state.is_file():
        with state.open("rb") as file:
            text = file.read(1 << 16).decode("utf-8", "replace")
        if named := _NAMED.search(text):
            name = PurePosixPath(PureWindowsPath(named[1]).name).name
            if name and name != ".." and (name in names or (folder / name).is_file()):
                return Prefix(folder=folder, name=name)
            if len(names) != 1:
                raise ModelError(
                    f"{state} names {named[1]!r}, which is not in its folder",
                    f"{_COPY}; or give one of: {', '.join(names) or 'none is there'}",
                )
    if len(names) != 1:
        raise ModelError(
            f"{folder} has {len(names)} checkpoints ({', '.join(names[:5])})",
            "give the prefix of one of them" if names else _COPY,
        )
    return Prefix(folder=folder, name=names[0])


def _shards(prefix: Prefix) -> list[Path]:
    """The weight files, as many as the first one's name says there are."""
    for path in sorted(prefix.folder.iterdir()):
        if path.name.startswith(f"{prefix.name}.data-") and (part := _PART.fullmatch(path.name)):
            count = int(part[2][-5:])
            return [prefix.file(f".data-{i:05}-of-{count:05}") for i in range(count)]
    if prefix.file(".index").is_file():
        return [prefix.file(".data-00000-of-00001")]
    return []
