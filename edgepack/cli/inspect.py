"""`edgepack inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json

_EPILOG = """Examples:

edgepack inspect model.keras

edgepack inspect dist/digits-jetson-orin --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("inspect", epilog=_EPILOG)(inspect)


def inspect(
    path: Annotated[Path, typer.Argument(help="A model or a bundle's folder.", show_default=False)],
    json: Json = False,
) -> None:
    """Show inputs, outputs, operators, sizes; for a bundle its precision and steps too."""
    from edgepack.cli.show import inspect_text, print_json
    from edgepack.inspection import inspect as inspect_path

    data = inspect_path(path)
    if json:
        print_json(data)
    else:
        inspect_text(data)
