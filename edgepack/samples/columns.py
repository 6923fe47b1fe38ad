"""Numbers in a CSV file, sorted into the model's inputs by the names of their columns."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError
from edgepack.samples.dataset import Samples
from edgepack.samples.labels import labels_from_text
from edgepack.samples.rows import Rows
from edgepack.samples.spool import Spool
from edgepack.samples.table import LABEL, Line, Table

_INDEXED = re.compile(r"(.*)\[(\d+)\]")
_LINES_AT_A_TIME = 1024
_TRUTH = {"0": 0, "1": 1, "false": 0, "true": 1}


def read_table(
    table: Table, *, specs: Sequence[TensorSpec], folder: Path, labelled: bool
) -> Samples:
    """The samples in a table of numbers, written to `folder`, which must live as long as they do.

    Columns, besides `label`, are the features of the only input in order, whatever their names; or `input` and `input[index]`, the
    index counting the sample's values in row-major order.

    Raises:
        DataError: columns that are not the model's, or a cell that is no number of the input's dtype: file, line, column, value.
    """
    fields = [(s, *_columns_of(s, table, only=len(specs) == 1)) for s in specs]
    used = {at for _, places, _ in fields for at in places}
    spare = [c for i, c in enumerate(table.columns) if i not in used and c != LABEL]
    if spare:
        raise DataError(
            f"{table.path}: the column {spare[0]!r} belongs to no input of the model "
            f"({', '.join(map(str, specs))})",
            "take it out, or name it input[index]",
        )
    texts: list[str] = []
    places: list[str] = []
    with ExitStack() as stack:
        spools = [
            stack.enter_context(Spool(folder / f"{k}.bin", f"{table.path}: {s.name}", len(specs)))
            for k, s in enumerate(specs)
        ]
        for lines in _grouped(table.lines()):
            for spool, (spec, at, shape) in zip(spools, fields, strict=True):
                values = [_values(table, line, at, spec.dtype) for line in lines]
                spool.append(np.stack(values).reshape(len(lines), *shape))
            if labelled:
                column = table.columns.index(LABEL)
                texts += [line.cells[column] for line in lines]
                places += [f"{table.path}:{line.number}" for line in lines]
        rows: dict[str, Rows] = {
            s.name: spool.rows() for s, spool in zip(specs, spools, strict=True)
        }
    labels, classes = labels_from_text(texts, places) if labelled else (None, ())
    return Samples(inputs=rows, source=table.path.name, labels=labels, classes=classes)


def _columns_of(spec: TensorSpec, table: Table, *, only: bool) -> tuple[list[int], tuple[int, ...]]:
    """The columns (their places) that make a sample of an input, in order, and the sample's shape."""
    indexed: dict[int, int] = {}
    for i, column in enumerate(table.columns):
        match = _INDEXED.fullmatch(column)
        if column == spec.name:
            indexed.setdefault(0, i)
        elif match and match[1] == spec.name:
            indexed[int(match[2])] = i
    if indexed and sorted(indexed) != list(range(len(indexed))):
        missing = next(i for i in range(len(indexed)) if i not in indexed)
        raise DataError(
            f"{table.path}: the column '{spec.name}[{missing}]' is missing",
            "give every index from 0",
        )
    places = [indexed[i] for i in sorted(indexed)]
    if only and (not places or len(places) == 1 < len(table.columns) - (LABEL in table.columns)):
        places = [i for i, c in enumerate(table.columns) if c != LABEL]
    return places, _shape_of(spec, len(places), table)


def _shape_of(spec: TensorSpec, count: int, table: Table) -> tuple[int, ...]:
    tail = list(spec.shape[1:])
    free = [i for i, d in enumerate(tail) if isinstance(d, str)]
    known = int(np.prod([d for d in tail if isinstance(d, int)], dtype=np.int64))
    if len(free) == 1 and known and count and count % known == 0:
        tail[free[0]] = count // known
    elif free or count != known:
        raise DataError(
            f"{table.path}: {count} columns for {spec.name}; the model takes {list(spec.shape)}",
            f"give {known if not free else 'a size with --shape, and'} columns for each sample, "
            f"named {spec.name}[0], {spec.name}[1], … where there are several inputs",
        )
    return tuple(d for d in tail if isinstance(d, int))


def _values(table: Table, line: Line, at: Sequence[int], dtype: str) -> NDArray[Any]:
    want = np.dtype(dtype)
    cells = [line.cells[column] for column in at]
    if want.kind == "f":
        with contextlib.suppress(ValueError), np.errstate(over="ignore"):
            row = np.array([float(cell) for cell in cells]).astype(want)
            if np.isfinite(row).all():
                return row
    row = np.empty(len(at), want)
    for k, cell in enumerate(cells):
        try:
            with np.errstate(over="raise"):
                row[k] = _value(cell, want)
            if not np.isfinite(row[k]):
                raise ValueError
        except (ValueError, OverflowError, FloatingPointError) as error:
            raise DataError(
                f"{table.path}:{line.number}: column {table.columns[at[k]]!r} holds {cell!r}, no {want}",
                "mend the cell, or take the line out",
            ) from error
    return row


def _value(cell: str, want: np.dtype[Any]) -> float | int:
    if want.kind == "f":
        return want.type(float(cell))  # type: ignore[no-any-return]
    if want.kind == "b":
        if cell.lower() not in _TRUTH:
            raise ValueError(cell)
        return _TRUTH[cell.lower()]
    number = float(cell) if any(c in cell for c in ".eE") else int(cell)
    if number != int(number):
        raise ValueError(cell)
    return int(number)


def _grouped(lines: Iterator[Line]) -> Iterator[list[Line]]:
    group: list[Line] = []
    for line in lines:
        group.append(line)
        if len(group) == _LINES_AT_A_TIME:
            yield group
            group = []
    if group:
        yield group
