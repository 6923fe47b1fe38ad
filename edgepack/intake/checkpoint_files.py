"""A TensorFlow checkpoint's files: `prefix.index`, `prefix.data-00000-of-00001`, `prefix.meta`, and the text `checkpoint` that names a prefix.

A name in a `checkpoint` file is only looked for in that file's own folder, whatever path it gives: checkpoints travel between machines,
and a foreign one must not make us read elsewhere.
"""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from edgepack.errors import ModelError

#: The last eight bytes of TensorFlow's tables (tensorflow/core/lib/io/format.h, kTableMagicNumber).
_TABLE = (0xDB4775248B80FB57).to_bytes(8, "little")
_PART = re.compile(r"(.+?)\.(index|meta|data-\d{5}-of-\d{5})")
_NAMED = re.compile(r'^\s*model_checkpoint_path:\s*"((?:[^"\\]|\\.)*)"', re.MULTILINE)
_COPY = "copy all files of the checkpoint: .meta, .index and .data-…"


def is_table(file: BinaryIO) -> bool:
    """Whether a file ends like one of TensorFlow's tables (an .index, or a whole checkpoint of the first version)."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    return file.read(8) == _TABLE


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a checkpoint's folder, prefix, or one of its files, told from the files that lie there."""
    if path.is_dir():
        return (path / "checkpoint").is_file() or any(path.glob("*.index"))
    prefix = _prefix_of(path)
    return _beside(prefix, ".index").is_file() or _beside(prefix, ".meta").is_file()


def checkpoint_prefix(path: Path) -> Path:
    """The prefix that the checkpoint's files share, all of which are there.

    Args:
        path: the folder, the prefix, or one of the files.

    Raises:
        ModelError: the weights or the graph (.meta) are missing, or a folder has several checkpoints and does not say which one.
    """
    state = path.name == "checkpoint" and not _beside(path, ".index").is_file()
    folder = path.parent if state else path
    prefix = _of_folder(folder) if folder.is_dir() else _prefix_of(path)
    shards = _shards(prefix)
    # The first version has one file, the prefix itself.
    if not _beside(prefix, ".index").is_file() and not prefix.is_file():
        raise ModelError(
            f"{path}: the checkpoint's weights are missing ({prefix.name}.index)",
            f"{_COPY}; the graph alone has no weights",
        )
    if missing := [name for name in shards if not (prefix.parent / name).is_file()]:
        raise ModelError(f"{path}: the checkpoint lacks {', '.join(missing[:5])}", _COPY)
    if not _beside(prefix, ".meta").is_file():
        raise ModelError(
            f"{path} is a TensorFlow checkpoint without a graph: {prefix.name}.meta is missing (checkpoints of "
            "TensorFlow 2 and weights saved with save_weights never have one)",
            "build the model in code, load these weights, and save it whole: model.save('model.keras') or model.export(folder)",
        )
    return prefix


def _prefix_of(path: Path) -> Path:
    part = _PART.fullmatch(path.name)
    return path.with_name(part[1]) if part else path


def _beside(prefix: Path, ending: str) -> Path:
    return prefix.with_name(prefix.name + ending)


def _of_folder(folder: Path) -> Path:
    """The checkpoint that the folder's `checkpoint` file names, or the only one in it."""
    names = sorted(p.name.removesuffix(".index") for p in folder.glob("*.index"))
    state = folder / "checkpoint"
    if state.is_file():
        with state.open("rb") as file:
            text = file.read(1 << 16).decode("utf-8", "replace")
        if named := _NAMED.search(text):
            name = PurePosixPath(PureWindowsPath(named[1]).name).name
            if name and name != ".." and (name in names or (folder / name).is_file()):
                return folder / name
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
    return folder / names[0]


def _shards(prefix: Path) -> list[str]:
    """Names of the weight files, as many as the first one's name says there are."""
    for path in sorted(prefix.parent.iterdir()):
        if path.name.startswith(f"{prefix.name}.data-") and (part := _PART.fullmatch(path.name)):
            count = int(part[2][-5:])
            return [f"{prefix.name}.data-{i:05}-of-{count:05}" for i in range(count)]
    if _beside(prefix, ".index").is_file():
        return [f"{prefix.name}.data-00000-of-00001"]
    return []
