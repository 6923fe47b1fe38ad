"""`edgepack verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json

_EPILOG = """Examples:

edgepack verify dist/digits-web

edgepack verify dist/digits-android --trust trust.json --app digits

edgepack verify dist/digits-android --key release.pub.pem --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify", epilog=_EPILOG)(verify)


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    trust: Annotated[
        Path | None,
        typer.Option("--trust", metavar="FILE", help="Whom you trust: a trust file, JSON or YAML."),
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE.pub.pem", help="Or a public key."),
    ] = None,
    app: Annotated[
        str | None, typer.Option("--app", help="The app it must be, with --trust or --key.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a bundle's signature, hashes and schema, then its answers to the golden tensors.

    Without --trust or --key a signature is shown, not checked. With one of them a bundle that is not signed, or not by a key that is
    trusted, is refused with exit code 13 before anything of it is opened.

    The golden run goes through the bundle's own loader where this machine can run it, else through the Python loader.
    Exit code 7 if anything differs.
    """
    from edgepack.bundle.verify import verify as verify_bundle
    from edgepack.cli.show import print_json, verify_text
    from edgepack.errors import BundleError

    result = verify_bundle(bundle, trust=trust, key=key, app=app)
    if json:
        print_json(result.as_json())
    else:
        verify_text(result)
    if not result.passed:
        raise typer.Exit(BundleError.exit_code)
