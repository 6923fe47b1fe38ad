"""`edgepack sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json, KeyOption, ask_password

_EPILOG = """Examples:

edgepack sign dist/digits-web --key release.pem

edgepack sign dist/digits-web --key new.pem --overwrite"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sign", epilog=_EPILOG)(sign)


def sign(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    key: KeyOption,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a signature that is there.")
    ] = False,
    json: Json = False,
) -> None:
    """Sign a bundle: writes manifest.sig into it, an OpenSSF Model Signing (OMS) bundle over every file.

    The files are checked against the manifest first. An encrypted key's password comes from $EDGEPACK_KEY_PASSWORD, or is asked for.
    """
    from edgepack.cli.show import print_json
    from edgepack.trust.keys import load_private
    from edgepack.trust.signature import sign as sign_bundle

    signature = sign_bundle(bundle, load_private(key, ask_password), overwrite=overwrite)
    if json:
        print_json({"bundle": str(bundle), "signature": signature.as_json()})
    else:
        typer.echo(f"{bundle}: signed with key {signature.key_id}")
