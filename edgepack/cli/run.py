"""`edgepack run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepack.cli.options import Json
from edgepack.errors import DataError, OutputError, UsageError

_EPILOG = """Examples:

edgepack run dist/digits-android --input image=x.npy

edgepack run dist/digits-android --input image=x.npy --output-dir answers/ --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run", epilog=_EPILOG)(run)


def run(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=FILE.npy",
            help="An input. Repeatable.",
            show_default=False,
        ),
    ],
    output_dir: Annotated[
        Path | None, typer.Option("--output-dir", help="Write each output there as .npy.")
    ] = None,
    json: Json = False,
) -> None:
    """Run a bundle on this machine, through the Python loader."""
    import numpy as np

    from edgepack.bundle.verify import run as run_bundle
    from edgepack.cli.show import print_json

    outputs = run_bundle(bundle, _read(inputs))
    written: dict[str, str] = {}
    if output_dir is not None:
        try:
            output_dir.mkdir(parents=True, exist_ok=True)
            for i, (name, value) in enumerate(outputs.items()):
                path = output_dir / f"output-{i}.npy"
                np.save(path, value)
                written[name] = str(path)
        except OSError as error:
            raise OutputError(
                f"cannot write {output_dir}: {error.strerror}", "choose another --output-dir"
            ) from error
    if json:
        data = {
            name: {
                "dtype": value.dtype.name,
                "shape": list(value.shape),
                **({"file": written[name]} if written else {"values": value.tolist()}),
            }
            for name, value in outputs.items()
        }
        print_json({"outputs": data})
        return
    for name, value in outputs.items():
        where = f" → {written[name]}" if written else f"\n{value}"
        typer.echo(f"{name}: {value.dtype} {list(value.shape)}{where}")


def _read(options: list[str]) -> dict[str, Any]:
    import numpy as np

    feeds: dict[str, Any] = {}
    for option in options:
        name, separator, path = option.partition("=")
        if not separator or not name or not path:
            raise UsageError(f"--input {option!r} is not NAME=FILE.npy", "e.g. --input image=x.npy")
        if name in feeds:
            raise UsageError(f"--input {name} is given twice", "give each input once")
        try:
            feeds[name] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"--input {name}: {path}: {error}", "give a .npy file of one array"
            ) from error
    return feeds
