"""Representative inputs: read, checked, handed out one feed at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError


class Calibration:
    """Samples for each input, and where they came from.

    An array is either [N, …] where the model's input is [batch, …], or [N, *shape] where one sample is a whole feed.
    """

    def __init__(self, arrays: Mapping[str, NDArray[Any]], *, source: str) -> None:
        self._arrays = dict(arrays)
        self.source = source

    @property
    def digest(self) -> str:
        """SHA-256 of names, dtypes, shapes and values."""
        digest = hashlib.sha256()
        for name, x in sorted(self._arrays.items()):
            digest.update(f"{name}\0{x.dtype.str}\0{x.shape}\0".encode())
            digest.update(np.ascontiguousarray(x).tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return min(len(x) for x in self._arrays.values())

    def checked(self, specs: Sequence[TensorSpec]) -> Calibration:
        """These samples under the names and dtypes of the model's inputs.

        float64 becomes float32 and wide integers narrow ones; anything else must match, since edgepack cannot know how
        a user's 0–255 image becomes a float.

        Raises:
            DataError: names the file, the input, what was expected and what came: a missing or unknown input, a wrong
                shape or dtype, NaN or infinity, no samples, different counts.
        """
        arrays = self._arrays
        if len(arrays) == 1 and len(specs) == 1:
            arrays = {specs[0].name: next(iter(arrays.values()))}
        names = {s.name for s in specs}
        if set(arrays) != names:
            raise DataError(
                f"{self.source} has {_names(arrays)}; the model's inputs are {_names(names)}",
                "save one array per input under its name: np.savez(file, **{name: array})",
            )
        result = {s.name: self._check(s, arrays[s.name]) for s in specs}
        counts = {name: len(x) for name, x in result.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{n}: {c}" for n, c in counts.items())
            raise DataError(
                f"{self.source}: different numbers of samples ({listed})", "give each the same"
            )
        return Calibration(result, source=self.source)

    def feeds(self, specs: Sequence[TensorSpec]) -> Iterator[dict[str, NDArray[Any]]]:
        """Feeds that fit a model whose inputs are `specs`; free dimensions take one sample at a time.

        Raises:
            DataError: fewer samples than one batch, or samples of another size than a dimension the model fixed.
        """
        batch = max(self._batch_of(s) for s in specs)
        if len(self) < batch:
            raise DataError(
                f"{self.source} has {len(self)} samples; the model takes {batch} at a time",
                "give more samples, or a smaller --batch",
            )
        for start in range(0, len(self) - batch + 1, batch):
            feed = {}
            for spec in specs:
                x = self._arrays[spec.name]
                whole = x.ndim == len(spec.shape) + 1
                feed[spec.name] = x[start] if whole else x[start : start + self._batch_of(spec)]
                sizes = feed[spec.name].shape
                fits = all(
                    isinstance(d, str) or d == n for d, n in zip(spec.shape, sizes, strict=True)
                )
                if not fits:
                    raise DataError(
                        f"{self.source}: samples of {spec.name} are {list(sizes)}, "
                        f"the model takes {list(spec.shape)}",
                        "give samples of that size, or change --shape",
                    )
            yield feed

    def _batch_of(self, spec: TensorSpec) -> int:
        if self._arrays[spec.name].ndim == len(spec.shape) + 1 or not spec.shape:
            return 1
        return spec.shape[0] if isinstance(spec.shape[0], int) else 1

    def _check(self, spec: TensorSpec, x: NDArray[Any]) -> NDArray[Any]:
        where = f"{self.source}: {spec.name}"
        want = np.dtype(spec.dtype)
        if x.dtype != want and not (x.dtype.kind == want.kind and want.kind in "fiu"):
            raise DataError(
                f"{where} is {x.dtype}, the model takes {want}",
                f"apply the model's own preprocessing and save it as {want}",
            )
        tail = list(spec.shape[1:])
        whole = x.ndim == len(spec.shape) + 1
        expected = list(spec.shape) if whole else tail
        fits = whole or 0 < x.ndim == len(spec.shape)
        fits = fits and all(
            isinstance(d, str) or d == n for d, n in zip(expected, x.shape[1:], strict=True)
        )
        if not fits:
            raise DataError(
                f"{where} has shape {list(x.shape)}; expected [N, {', '.join(map(str, tail))}], "
                f"N samples for the model's {list(spec.shape)}",
                "reshape or resize the samples to the model's input",
            )
        if len(x) == 0:
            raise DataError(f"{where} holds no sample", "give at least one; 100 or more is usual")
        if x.dtype.kind == "f":
            for i, sample in enumerate(x):
                if not np.isfinite(sample).all():
                    bad = np.argwhere(~np.isfinite(np.atleast_1d(sample)))[0].tolist()
                    value = np.atleast_1d(sample)[tuple(bad)]
                    raise DataError(
                        f"{where}: sample {i} holds {value} at {bad}",
                        "drop or mend that sample: a range taken from it would ruin every answer",
                    )
        return x.astype(want, copy=False)


def read_calibration(path: Path) -> Calibration:
    """The arrays in a .npz (one per input, by name) or .npy (one input) file.

    Raises:
        DataError: missing, damaged, pickled, or of another kind.
    """
    if not path.is_file():
        raise DataError(f"calibration data {path}: no such file", "check the path")
    try:
        arrays = _arrays(path)
    except Exception as error:  # numpy, zipfile, zlib and tokenize have their own for damaged files
        raise DataError(
            f"calibration data {path}: not a .npz or .npy of plain arrays ({error})",
            "write it with np.savez(file, **{input_name: array}), array of shape [N, …]",
        ) from error
    if not arrays:
        raise DataError(f"calibration data {path}: holds no array", "save one per input")
    return Calibration(arrays, source=path.name)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    with path.open("rb") as file:
        loaded = np.load(file, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        arrays = {}
        for name in loaded.files:
            if not isinstance(loaded[name], np.ndarray):
                raise ValueError(f"{name} is no array")
            arrays[name] = loaded[name]
        return arrays


def as_calibration(data: object) -> Calibration | None:
    """Calibration from a path, a mapping of arrays, one array, or None."""
    if data is None or isinstance(data, Calibration):
        return data
    if isinstance(data, (str, Path)):
        return read_calibration(Path(data))
    if isinstance(data, np.ndarray):
        return Calibration({"": data}, source="calibration")
    if isinstance(data, Mapping):
        return Calibration({k: np.asarray(v) for k, v in data.items()}, source="calibration")
    raise UsageError(
        f"calibration is a {type(data).__name__}", "give a path, an array, or {input name: array}"
    )


def _names(names: object) -> str:
    return ", ".join(sorted(repr(n) for n in names)) or "nothing"  # type: ignore[attr-defined]
