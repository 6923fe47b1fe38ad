"""Labels as people write them, numbers or names, as one array."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError

#: Files in a folder of images that list its classes, one a line, in the order of the model's outputs.
CLASS_FILES = ("labels.txt", "classes.txt")


def labels_from_text(
    texts: Sequence[str], places: Sequence[str], classes: Sequence[str] = ()
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """(labels [N], the classes' names): int64 class numbers, or float32 values where they are fractions.

    Names become numbers by their place in `classes`; without that, in sorted order, as Keras' image_dataset_from_directory counts.

    Args: places: where each stands, for messages.

    Raises:
        DataError: an empty label, numbers and names mixed, or a name that `classes` does not have.
    """
    for text, place in zip(texts, places, strict=True):
        if not text:
            raise DataError(f"{place}: the label is empty", "give every sample a label")
    if classes and set(texts) <= set(classes):
        return _numbered(texts, places, classes), tuple(classes)
    numbers = [_number(text) for text in texts]
    if None not in numbers:
        values = np.array(numbers, np.float64)
        whole = bool((values == np.rint(values)).all())
        if whole and not any("." in t or "e" in t.lower() for t in texts):
            return values.astype(np.int64), tuple(classes)
        return values.astype(np.float32), tuple(classes)
    if any(n is not None for n in numbers) and not classes:
        odd = next(i for i, n in enumerate(numbers) if n is None)
        raise DataError(
            f"{places[odd]}: label {texts[odd]!r} is a name, others are numbers",
            "use one or the other",
        )
    names = tuple(classes) or tuple(sorted(set(texts)))
    return _numbered(texts, places, names), names


def class_names(folder: Path) -> tuple[str, ...]:
    """The classes that labels.txt or classes.txt in `folder` lists, in its order; none if neither is there.

    Raises:
        DataError: not text, or a name that is there twice.
    """
    for name in CLASS_FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: not UTF-8 text", "write one class name a line") from error
        names = [line.strip() for line in lines if line.strip()]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise DataError(f"{path}: {twice[0]!r} is there twice", "write one class name a line")
        return tuple(names)
    return ()


def folder_classes(folder: Path, names: Sequence[str]) -> tuple[str, ...]:
    """The classes in the model's order: what labels.txt lists, else the subfolders' `names`, sorted.

    Raises:
        DataError: a subfolder that labels.txt does not list, or numbers that sort one way as text and another as numbers.
    """
    listed = class_names(folder)
    unknown = sorted(set(names) - set(listed))
    if listed and unknown:
        raise DataError(
            f"{folder}: the folder {unknown[0]!r} is no class in its {' or '.join(CLASS_FILES)}",
            "add the name in the order of the model's outputs, or take the folder out",
        )
    if listed:
        return listed
    by_text = sorted(set(names))
    if all(n.isdecimal() for n in by_text) and by_text != sorted(by_text, key=int):
        raise DataError(
            f"{folder}: the classes {', '.join(by_text[:4])}, … sort differently as numbers and as text",
            f"write {CLASS_FILES[0]} there: one class name a line, in the order of the model's outputs",
        )
    return tuple(by_text)


def _numbered(
    texts: Sequence[str], places: Sequence[str], classes: Sequence[str]
) -> NDArray[np.int64]:
    number = {name: i for i, name in enumerate(classes)}
    for text, place in zip(texts, places, strict=True):
        if text not in number:
            raise DataError(
                f"{place}: label {text!r} is no class of {', '.join(list(classes)[:8])}",
                "correct it, or list the class",
            )
    return np.array([number[t] for t in texts], np.int64)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None
