"""`edgepack quickstart`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json, Overwrite


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("quickstart", epilog="Example: edgepack quickstart -o /tmp/quickstart")(quickstart)


def quickstart(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the bundles.")] = Path(
        "quickstart"
    ),
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Build and verify bundles for a Jetson, Android, iOS and the web from a small digits model; print their accuracy.

    Works offline, takes under two minutes.
    """
    from edgepack.cli.live import live_progress
    from edgepack.cli.show import print_json, quickstart_table
    from edgepack.quickstart import run_quickstart

    with live_progress(quiet=json) as progress:
        result = run_quickstart(output, overwrite=overwrite, progress=progress)
    if json:
        print_json(result.as_json())
    else:
        quickstart_table(result)
