"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from edgepack.errors import UsageError

ModelArgument = Annotated[
    Path,
    typer.Argument(help="A .keras, .h5/.hdf5, SavedModel folder or .onnx.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
ShapeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="INPUT=SIZES",
        help="Sizes of an input, e.g. image=1x64x64x1; `?` leaves a dimension free. Repeatable.",
    ),
]
BatchOption = Annotated[
    str | None,
    typer.Option(
        "--batch",
        metavar="N|free",
        help="Size of a free batch dimension. [default: the profile's, 1]",
    ),
]
AtolOption = Annotated[
    float | None,
    typer.Option("--atol", help="Absolute parity tolerance, instead of the profile's."),
]
RtolOption = Annotated[
    float | None,
    typer.Option("--rtol", help="Relative parity tolerance, instead of the profile's."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is already there.")]


def parse_shapes(options: list[str] | None) -> dict[str, tuple[int | str, ...]]:
    """`name=1x64x64x1` → {name: (1, 64, 64, 1)}; a `?` becomes a free dimension.

    Raises:
        UsageError: not of that form, or an input is given twice.
    """
    shapes: dict[str, tuple[int | str, ...]] = {}
    for option in options or []:
        name, separator, sizes = option.rpartition("=")
        if not separator or not name or not re.fullmatch(r"(\d+|\?)(x(\d+|\?))*", sizes):
            raise UsageError(
                f"--shape {option!r} is not INPUT=SIZES", "write it like --shape image=1x64x64x1"
            )
        if name in shapes:
            raise UsageError(f"--shape {name} is given twice", "give each input once")
        dims = tuple(d if d == "?" else int(d) for d in sizes.split("x"))
        if 0 in dims:
            raise UsageError(f"--shape {option!r} has a size of 0", "sizes start at 1")
        shapes[name] = dims
    return shapes


def parse_batch(option: str | None) -> int | str | None:
    """A positive number or "free".

    Raises:
        UsageError: anything else.
    """
    if option is None or option == "free":
        return option
    if not re.fullmatch(r"[1-9]\d*", option):
        raise UsageError(f"--batch {option!r} is no size", "give a number from 1, or free")
    return int(option)
