"""`edgepack keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json

_EPILOG = """Examples:

edgepack keygen release.pem

edgepack keygen release.pem --password

EDGEPACK_KEY_PASSWORD=… edgepack keygen release.pem --json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("keygen", epilog=_EPILOG)(keygen)


def keygen(
    key: Annotated[
        Path,
        typer.Argument(
            help="Where the private key goes; the public one goes beside it, NAME.pub.pem.",
            show_default=False,
        ),
    ],
    password: Annotated[
        bool,
        typer.Option(
            "--password",
            help="Ask for a password that encrypts the key, or take $EDGEPACK_KEY_PASSWORD.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Make a pair of keys that sign bundles (ECDSA over P-256).

    The private key is readable by you alone (mode 0600); a file that is there is never overwritten.
    """
    import os

    from edgepack.cli.show import print_json
    from edgepack.trust.keys import PASSWORD_VARIABLE, generate

    secret = os.environ.get(PASSWORD_VARIABLE)
    if password and not secret:
        secret = typer.prompt("password", hide_input=True, confirmation_prompt=True, err=True)
    pair = generate(key, secret)
    if json:
        print_json({"id": pair.id, "private": str(pair.private), "public": str(pair.public)})
        return
    how = "encrypted" if secret else "not encrypted"
    typer.echo(f"private key  {pair.private}  ({how}; keep it secret: whoever has it can sign)")
    typer.echo(f"public key   {pair.public}")
    typer.echo(f"id           {pair.id}")
    typer.echo(f"trust it: edgepack trust add trust.json --key {pair.public} --name '{key.stem}'")
