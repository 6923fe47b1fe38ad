"""Do these rows fit this input? What does not is refused with the sample, the index and the value."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError
from edgepack.samples.rows import CastRows, MadeRows, Rows, blocks


def checked_rows(spec: TensorSpec, rows: Rows, source: str) -> Rows:
    """The rows in the input's dtype.

    Raises:
        DataError: another kind of dtype, another shape, no sample, a value that is not finite or that the dtype cannot hold.
    """
    where = f"{source}: {spec.name}"
    want = np.dtype(spec.dtype)
    if rows.dtype != want and not (rows.dtype.kind == want.kind and want.kind in "fiu"):
        raise DataError(
            f"{where} is {rows.dtype}, the model takes {want}",
            f"apply the model's own preprocessing and save it as {want}",
        )
    _require_shape(spec, rows, where)
    if len(rows) == 0:
        raise DataError(f"{where} holds no sample", "give at least one; 100 or more is usual")
    if not isinstance(rows, MadeRows):
        _require_values(rows, want, where)
    return rows if rows.dtype == want else CastRows(rows, want)


def checked_labels(labels: Rows, count: int, source: str) -> Rows:
    """The labels, as they are.

    Raises:
        DataError: not numbers, not one for each of `count` samples, or not finite.
    """
    where = f"{source}: labels"
    if labels.dtype.kind not in "biuf":
        raise DataError(
            f"{where} are {labels.dtype}",
            "give each class's number, as the model counts its outputs",
        )
    if not labels.shape or labels.shape[0] != count:
        raise DataError(
            f"{where} have shape {list(labels.shape)} for {count} samples",
            "give one label for each sample: [N] class numbers, or [N, …]",
        )
    _require_values(labels, labels.dtype, where)
    return labels


def _require_shape(spec: TensorSpec, rows: Rows, where: str) -> None:
    tail = list(spec.shape[1:])
    ndim = len(rows.shape)
    whole = ndim == len(spec.shape) + 1
    expected = list(spec.shape) if whole else tail
    fits = whole or 0 < ndim == len(spec.shape)
    fits = fits and all(
        isinstance(d, str) or d == n for d, n in zip(expected, rows.shape[1:], strict=True)
    )
    if not fits:
        raise DataError(
            f"{where} has shape {list(rows.shape)}; expected [N, {', '.join(map(str, tail))}], "
            f"N samples for the model's {list(spec.shape)}",
            "reshape or resize the samples to the model's input",
        )


def _require_values(rows: Rows, want: np.dtype[Any], where: str) -> None:
    """Raises DataError: a float that is not finite, before or after its conversion to `want`, or an integer out of range."""
    if rows.dtype.kind == "f":
        for start, block in blocks(rows):
            _refuse(block, ~np.isfinite(block), start, where)
            with np.errstate(over="ignore"):
                cast = block.astype(want, copy=False)
            _refuse(block, ~np.isfinite(cast), start, where, want)
    elif rows.dtype.kind in "iu" and not np.can_cast(rows.dtype, want):
        limits = np.iinfo(want)
        for start, block in blocks(rows):
            _refuse(block, (block < limits.min) | (block > limits.max), start, where, want)


def _refuse(
    block: NDArray[Any],
    bad: NDArray[np.bool_],
    start: int,
    where: str,
    want: np.dtype[Any] | None = None,
) -> None:
    if not bad.any():
        return
    place = np.argwhere(bad)[0].tolist()
    value, index = block[tuple(place)], place[1:] or [0]
    beyond = "" if want is None else f", which {want} cannot hold"
    raise DataError(
        f"{where}: sample {start + place[0]} holds {value} at {index}{beyond}",
        "drop or mend that sample: one such value ruins all that is taken from the data",
    )
