"""Sets of image files: a folder, with classes by subfolder or labels.csv; or a CSV that lists files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.samples.dataset import Samples
from edgepack.samples.frame import Frame, frame_for
from edgepack.samples.images import SUFFIXES, ImageRows, require_pillow
from edgepack.samples.labels import CLASS_FILES, class_names, folder_classes, labels_from_text
from edgepack.samples.preprocessing import Preprocessing
from edgepack.samples.table import LABEL, Table, image_column, open_table

LABEL_TABLE = "labels.csv"


def image_folder(
    folder: Path,
    *,
    specs: Sequence[TensorSpec],
    preprocessing: Preprocessing | None,
    labelled: bool,
) -> Samples:
    """The images in a folder and those below it, sorted by their relative paths.

    Labels: `labels.csv` (columns file and label) if it is there, else the subfolder's class: its line in labels.txt or classes.txt,
    or its place among the subfolders, sorted.

    Raises:
        DataError: no image, an image without a label, or a label without an image.
        UsageError: see `frame_for`; or the model has several inputs.
        EnvironmentMissing: Pillow is not installed.
    """
    names = sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.suffix.lower() in SUFFIXES and p.is_file() and not p.name.startswith(".")
    )
    if not names:
        raise DataError(
            f"{folder}: holds no image",
            f"put images there, with one of the endings {', '.join(SUFFIXES)}",
        )
    frame = _frame(specs, preprocessing, f"{folder}")
    rows = {specs[0].name: ImageRows(root=folder, names=tuple(names), frame=frame)}
    if not labelled:
        return Samples(inputs=rows, source=folder.name)
    if (folder / LABEL_TABLE).is_file():
        texts, places = _listed_labels(folder, names)
        labels, classes = labels_from_text(texts, places, class_names(folder))
    else:
        texts = [_subfolder(folder, name) for name in names]
        classes = folder_classes(folder, sorted(set(texts)))
        labels, classes = labels_from_text(texts, [f"{folder / n}" for n in names], classes)
    return Samples(inputs=rows, source=folder.name, labels=labels, classes=classes)


def image_list(
    table: Table,
    *,
    specs: Sequence[TensorSpec],
    preprocessing: Preprocessing | None,
    labelled: bool,
) -> Samples:
    """The images that a CSV file lists, relative to its own folder, in its order. Columns but the files' and `label` are for others.

    Raises:
        DataError: a file that is not there, or no label: file and line of the CSV.
        UsageError, EnvironmentMissing: as `image_folder`.
    """
    root = table.path.parent
    names, texts, places = _file_lines(table, labelled=labelled)
    for name, place in zip(names, places, strict=True):
        if not (root / name).is_file():
            raise DataError(f"{place}: {name}: no such file in {root}", "correct the path")
    if not names:
        raise DataError(f"{table.path}: lists no image", "write one on each line below the header")
    frame = _frame(specs, preprocessing, f"{table.path}")
    rows = {specs[0].name: ImageRows(root=root, names=tuple(names), frame=frame)}
    if not labelled:
        return Samples(inputs=rows, source=table.path.name)
    labels, classes = labels_from_text(texts, places, class_names(root))
    return Samples(inputs=rows, source=table.path.name, labels=labels, classes=classes)


def only_input_frame(
    specs: Sequence[TensorSpec], preprocessing: Preprocessing | None, source: str
) -> Frame:
    """What an image must become for the model's only input.

    Raises:
        UsageError: see `frame_for`; or the model has several inputs.
    """
    if len(specs) != 1:
        raise UsageError(
            f"{source} holds images; the model has {len(specs)} inputs "
            f"({', '.join(s.name for s in specs)})",
            "give a .npz with one array for each, or module:function",
        )
    return frame_for(specs[0], preprocessing, source)


def _frame(specs: Sequence[TensorSpec], preprocessing: Preprocessing | None, source: str) -> Frame:
    require_pillow()
    return only_input_frame(specs, preprocessing, source)


def _file_lines(table: Table, *, labelled: bool) -> tuple[list[str], list[str], list[str]]:
    """Files, labels (where asked for), and the places they stand at."""
    column = image_column(table)
    if column is None:
        raise DataError(f"{table.path}: no column lists files", "name one 'file'")
    if labelled and LABEL not in table.columns:
        raise no_labels(str(table.path), f"add a column {LABEL!r}")
    at = table.columns.index(column)
    label = table.columns.index(LABEL) if labelled else at
    names, texts, places = [], [], []
    for line in table.lines():
        names.append(os.fspath(PurePosixPath(line.cells[at].replace("\\", "/"))))
        texts.append(line.cells[label])
        places.append(f"{table.path}:{line.number}")
    return names, texts, places


def _listed_labels(folder: Path, names: Sequence[str]) -> tuple[list[str], list[str]]:
    listed, texts, places = _file_lines(open_table(folder / LABEL_TABLE), labelled=True)
    label_of = dict(zip(listed, zip(texts, places, strict=True), strict=True))
    if len(label_of) < len(listed):
        twice = next(n for n in listed if listed.count(n) > 1)
        raise DataError(f"{folder / LABEL_TABLE}: {twice} is there twice", "keep one line")
    unlabelled = [n for n in names if n not in label_of]
    if unlabelled:
        raise DataError(
            f"{folder / LABEL_TABLE}: {len(unlabelled)} of {len(names)} images are not in it, the first {unlabelled[0]}",
            "add them, or move them out of the folder",
        )
    absent = sorted(set(listed) - set(names))
    if absent:
        place = label_of[absent[0]][1]
        raise DataError(f"{place}: {absent[0]}: no such image in {folder}", "correct the path")
    return [label_of[n][0] for n in names], [label_of[n][1] for n in names]


def _subfolder(folder: Path, name: str) -> str:
    parts = PurePosixPath(name).parts
    if len(parts) == 1:
        raise no_labels(
            f"{folder}: {name}",
            f"sort the images into one subfolder for each class (their order: sorted, or as in "
            f"{CLASS_FILES[0]}), or write {LABEL_TABLE} there with the columns file and {LABEL}",
        )
    return parts[0]


def no_labels(source: str, fix: str) -> DataError:
    """The error for data without labels where labels were asked for."""
    return DataError(f"{source} has no labels, which accuracy is measured against", fix)
