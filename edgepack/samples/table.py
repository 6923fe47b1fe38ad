"""A CSV file: a header line, and a sample on each line below it."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import DataError

LABEL = "label"
#: A column of this name lists image files.
IMAGE_COLUMNS = ("file", "path", "image")


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line's cells and where it stands."""

    number: int
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV file's header; its lines are read as they are asked for. The separator is a comma, semicolon or tab."""

    path: Path
    columns: tuple[str, ...]
    separator: str

    def lines(self) -> Iterator[Line]:
        """Every line below the header that is not blank.

        Raises:
            DataError: not text, not CSV, or another number of cells than the header has.
        """
        records = _records(self.path, self.separator)
        next(records, None)
        for number, cells in records:
            if not cells:
                continue
            if len(cells) != len(self.columns):
                raise DataError(
                    f"{self.path}:{number}: {len(cells)} cells under {len(self.columns)} columns",
                    "give every line as many cells as the header",
                )
            yield Line(number=number, cells=tuple(c.strip() for c in cells))


def open_table(path: Path) -> Table:
    """A CSV file with a header line.

    Raises:
        DataError: empty, no header, or a column that is there twice.
    """
    with_commas = next(_records(path, ","), (1, []))[1]
    first = ",".join(with_commas)
    separator = next((s for s in (",", ";", "\t") if s in first), ",")
    header = [c.strip() for c in next(_records(path, separator), (1, []))[1]]
    fix = "the first line names the columns: a feature, input[index], file, or label each"
    if not any(header):
        raise DataError(f"{path}: has no header line", fix)
    if "" in header:
        raise DataError(
            f"{path}: column {header.index('') + 1} has no name",
            "name it, or take it out (pandas: to_csv(file, index=False))",
        )
    twice = sorted({c for c in header if header.count(c) > 1})
    if twice:
        raise DataError(f"{path}: the column {twice[0]!r} is there twice", fix)
    counted = header == [
        str(i) for i in range(len(header))
    ]  # pandas' names for columns without one
    if all(_is_number(c) for c in header) and not counted:
        raise DataError(f"{path}: the first line holds numbers ({header[0]}, …), no names", fix)
    return Table(path=path, columns=tuple(header), separator=separator)


def image_column(table: Table) -> str | None:
    """The column that lists image files: named file, path or image, and what stands in it is no number."""
    for name in IMAGE_COLUMNS:
        if name in table.columns:
            at = table.columns.index(name)
            first = next(table.lines(), None)
            if first is None or not _is_number(first.cells[at]):
                return name
    return None


def _records(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not CSV text in UTF-8 ({error})", "write it again") from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
