"""`edgepack runtime-config`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json, Overwrite

_EPILOG = """Examples:

edgepack runtime-config dist/digits-android dist/faces-android -o reduced

edgepack runtime-config dist/*-ios -o reduced-ios --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("runtime-config", epilog=_EPILOG)(runtime_config)


def runtime_config(
    bundles: Annotated[
        list[Path],
        typer.Argument(help="Folders of bundles whose model is .ort.", show_default=False),
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to make.", show_default=False)
    ],
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write what ONNX Runtime's own custom build takes to hold just these bundles' operators and types.

    The operators' file, the settings for Android or iOS, and a script that clones the right tag and builds.
    """
    from edgepack.cli.show import print_json
    from edgepack.reduced_runtime import runtime_config as make

    made = make(bundles, output, overwrite=overwrite)
    if json:
        print_json(made.as_json())
        return
    typer.echo(f"{made.folder}: {made.operators} operators of {', '.join(made.bundles)}")
    typer.echo(f"  ONNX Runtime {made.tag} with {', '.join(made.providers)}")
    for name in made.files:
        typer.echo(f"  {made.folder / name}")
