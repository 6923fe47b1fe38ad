"""`edgepack verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json

_EPILOG = """Examples:

edgepack verify dist/digits-web

edgepack verify dist/digits-android --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=_EPILOG)(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    json: Json = False,
) -> None:
    """Check a bundle's hashes and schema, then its answers to the golden tensors.

    The golden run goes through the bundle's own loader where this machine can run it, else through the Python loader.
    Exit code 7 if anything differs.
    """
    from edgepack.bundle.verify import verify as verify_bundle
    from edgepack.cli.show import print_json, verify_text
    from edgepack.errors import BundleError

    result = verify_bundle(bundle)
    if json:
        print_json(result.as_json())
    else:
        verify_text(result)
    if not result.passed:
        raise typer.Exit(BundleError.exit_code)
