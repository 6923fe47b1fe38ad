"""`edgepack pack` and `edgepack unpack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import Json, Overwrite

_PACK = """Examples:

edgepack pack dist/digits-web

edgepack pack dist/digits-web -o /tmp/digits-web.edgepack"""
_UNPACK = """Examples:

edgepack unpack digits-web.edgepack

edgepack unpack digits-web.edgepack -o /srv/digits"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("pack", epilog=_PACK)(pack)
    app.command("unpack", epilog=_UNPACK)(unpack)


def pack(
    bundle: Annotated[Path, typer.Argument(help="A bundle's folder.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The file. [default: BUNDLE.edgepack]"),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Write a bundle, its signature included, as one file: a ZIP archive, the same bytes for the same bundle."""
    from edgepack.bundle.archive import pack as pack_bundle
    from edgepack.cli.show import print_json, size

    place = pack_bundle(bundle, output, overwrite=overwrite)
    length = place.stat().st_size
    if json:
        print_json({"archive": str(place), "size": length})
    else:
        typer.echo(f"{place}: {size(length)}")


def unpack(
    archive: Annotated[Path, typer.Argument(help="What `pack` wrote.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The bundle's folder. [default: APP-TARGET]"),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Unpack a bundle. Every entry is looked at before a byte is written, and every file's hash before the folder is in place."""
    from edgepack.bundle.archive import unpack as unpack_bundle
    from edgepack.cli.show import print_json

    place = unpack_bundle(archive, output, overwrite=overwrite)
    if json:
        print_json({"bundle": str(place)})
    else:
        typer.echo(f"{place}: unpacked; check it: edgepack verify {place}")
