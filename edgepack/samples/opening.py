"""What `--calibration` and `--eval` take, whatever it is, as samples of a model's inputs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.samples.arrays import LABEL_NAMES, read_arrays, split_labels
from edgepack.samples.columns import read_table
from edgepack.samples.dataset import Samples
from edgepack.samples.frame import Frame
from edgepack.samples.generator import is_place, load_data, require_module, spooled
from edgepack.samples.image_sets import image_folder, image_list, no_labels, only_input_frame
from edgepack.samples.images import SUFFIXES, ImageRows
from edgepack.samples.noise import RANDOM, random_samples
from edgepack.samples.preprocessing import Preprocessing, as_preprocessing
from edgepack.samples.rows import CastRows, ChosenRows, FileRows, MadeRows, Rows
from edgepack.samples.table import LABEL, image_column, open_table

#: Text tables are known by their names: nothing in their content tells them from other text.
TABLES = (".csv", ".tsv")
_TAKEN = (
    "give a .npz, .npy or .csv file, a folder of images, module:function, 'random', an array, "
    "{input name: array}, or an iterable of feeds"
)


def require_exists(data: object, *, what: str = "calibration data") -> None:
    """Early, before a model is opened: something is there under this name, and of a kind that `open_samples` takes.

    Raises:
        DataError: no such file or folder.
        UsageError: another type, or no such module.
    """
    if data is None or (isinstance(data, str) and data == RANDOM):
        return
    if isinstance(data, (str, Path)):
        path = Path(data)
        if path.exists():
            return
        if isinstance(data, str) and is_place(data):
            require_module(data)
            return
        raise DataError(f"{what} {path}: no such file or folder", "check the path")
    if not isinstance(data, (Samples, np.ndarray, Mapping, Iterable)) and not callable(data):
        raise UsageError(f"{what} is a {type(data).__name__}", _TAKEN)


def open_samples(
    data: object,
    *,
    specs: Sequence[TensorSpec],
    folder: Path,
    preprocessing: object = None,
    labelled: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Samples:
    """The samples in `data`, checked against the model's inputs.

    Args:
        data: a .npz (an array per input, labels under `labels`), .npy, .csv, a folder of images, `module:function`, "random"; an array,
            {input: array}, a function, an iterable of feeds or of (feed, label); or Samples.
        specs: the model's inputs, at the sizes that it will be given: images are resized to them.
        folder: for what must be unpacked or written down; it must live as long as the samples.
        preprocessing: for image files: see `as_preprocessing`. Other data are in the model's own preprocessing already.
        labelled: with labels; without, labels that are there are left out.
        say: is told now and then how much was read of data that yield one element after another.

    Raises:
        DataError: missing, damaged, not what the model takes, or without the labels asked for.
        UsageError: preprocessing for what holds no images, or none for what does.
        EnvironmentMissing: images, and Pillow is not installed.
    """
    require_exists(data)
    way = as_preprocessing(preprocessing)
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix="samples-", dir=folder))
    samples = _opened(data, specs, place, way, labelled, say)
    return samples.checked(specs)


def image_frame(
    specs: Sequence[TensorSpec], preprocessing: object, *samples: Samples | None
) -> Frame | None:
    """How an image becomes the model's only input; None where nobody said: no preprocessing, and no images among the samples.

    Arrays beside a preprocessing are what it has made of images already.

    Raises:
        UsageError: preprocessing for a model with several inputs, or for one that takes no images; or see `as_preprocessing`.
        DataError: arrays that no image becomes in this preprocessing.
    """
    given = [some for some in samples if some is not None]
    rows = (r for some in given for r in some.inputs.values())
    frame = next((r.frame for r in rows if isinstance(r, ImageRows)), None)
    way = as_preprocessing(preprocessing)
    if way is None:
        return frame
    frame = frame or only_input_frame(specs, way, "what preprocessing is for")
    for some in given:
        (made,) = some.inputs.values()
        if not isinstance(made, ImageRows) and not some.random:
            frame.require_made(made, some.source)
    return frame


def holds_images(data: object) -> bool:
    """Whether these are image files, which preprocessing is for: a folder, or a .csv that lists them."""
    if not isinstance(data, (str, Path)) or not Path(data).exists():
        return False
    path = Path(data)
    if path.is_dir():
        return True
    return path.suffix.lower() in TABLES and image_column(open_table(path)) is not None


def _opened(
    data: object,
    specs: Sequence[TensorSpec],
    folder: Path,
    preprocessing: Preprocessing | None,
    labelled: bool,
    say: Callable[[str], None],
) -> Samples:
    if isinstance(data, (str, Path)) and Path(data).exists():
        path = Path(data)
        if path.is_dir():
            return image_folder(path, specs=specs, preprocessing=preprocessing, labelled=labelled)
        if path.suffix.lower() in TABLES:
            return _from_table(path, specs, folder, preprocessing, labelled)
    if preprocessing is not None:
        raise UsageError(
            f"preprocessing is for image files; {_name(data)} is none",
            "leave it out, and give arrays in the model's own preprocessing",
        )
    if isinstance(data, Samples):
        return _labels_as_asked(data, labelled)
    if isinstance(data, str) and data == RANDOM:
        if labelled:
            raise UsageError("random samples have no labels", "give real data to measure accuracy")
        return random_samples(specs)
    if isinstance(data, (str, Path)):
        if Path(data).exists():
            return _from_arrays(
                read_arrays(_no_image(Path(data)), folder), specs, Path(data).name, labelled
            )
        found = load_data(str(data))
        return _from_object(found, specs, folder, str(data), labelled, say)
    found = data() if callable(data) and not isinstance(data, Iterable) else data
    purpose = "evaluation" if labelled else "calibration"
    return _from_object(found, specs, folder, purpose, labelled, say)


def _from_object(
    data: object,
    specs: Sequence[TensorSpec],
    folder: Path,
    source: str,
    labelled: bool,
    say: Callable[[str], None],
) -> Samples:
    if isinstance(data, Samples):
        return _labels_as_asked(data, labelled)
    if isinstance(data, np.ndarray):
        return _from_arrays({"": data}, specs, source, labelled)
    if isinstance(data, Mapping):
        arrays = {str(k): _rows(v) for k, v in data.items()}
        return _from_arrays(arrays, specs, source, labelled)
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return spooled(data, specs=specs, folder=folder, source=source, labelled=labelled, say=say)
    raise UsageError(f"{source} is a {type(data).__name__}", _TAKEN)


def _from_arrays(
    arrays: Mapping[str, Rows], specs: Sequence[TensorSpec], source: str, labelled: bool
) -> Samples:
    inputs, labels = split_labels(arrays, {s.name for s in specs})
    if labelled and labels is None:
        raise no_labels(
            source,
            f"save a .npz with one array per input and the labels under {LABEL_NAMES[0]!r}: "
            f"np.savez(file, {specs[0].name}=x, {LABEL_NAMES[0]}=y)",
        )
    return Samples(inputs=inputs, source=source, labels=labels if labelled else None)


def _from_table(
    path: Path,
    specs: Sequence[TensorSpec],
    folder: Path,
    preprocessing: Preprocessing | None,
    labelled: bool,
) -> Samples:
    table = open_table(path)
    if image_column(table) is not None:
        return image_list(table, specs=specs, preprocessing=preprocessing, labelled=labelled)
    if preprocessing is not None:
        raise UsageError(
            f"preprocessing is for image files; {path} holds numbers",
            "leave it out, or name the column that lists the files 'file'",
        )
    if labelled and LABEL not in table.columns:
        raise no_labels(str(path), f"add a column {LABEL!r}")
    return read_table(table, specs=specs, folder=folder, labelled=labelled)


def _labels_as_asked(samples: Samples, labelled: bool) -> Samples:
    if labelled and samples.labels is None:
        raise no_labels(samples.source, "open the data with labelled=True")
    return samples


def _rows(value: Any) -> Rows:
    """Rows as they are; what numpy makes an array of, as that."""
    if isinstance(value, (np.ndarray, FileRows, CastRows, ChosenRows, MadeRows)):
        return value  # type: ignore[return-value]
    return np.asarray(value)


def _no_image(path: Path) -> Path:
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f"{path}: is one image", "give the folder, or a .csv with a column 'file'")
    return path


def _name(data: object) -> str:
    return str(data) if isinstance(data, (str, Path)) else f"a {type(data).__name__}"
