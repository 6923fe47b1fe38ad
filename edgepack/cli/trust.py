"""`edgepack trust`: which keys count."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepack.cli.options import Json, KeyOption, ask_password

_EPILOG = """Examples:

edgepack trust add trust.json --key release.pub.pem --name 'release 2026' --days 730

edgepack trust revoke trust.json 3f9a1c --reason 'the laptop was stolen'

edgepack trust require trust.json --app digits --release-seq 7

edgepack trust sign trust.json --key release.pem -o trust.signed.json

edgepack trust accept trust.signed.json --old trust.json -o trust.json"""

app = typer.Typer(
    help="Trust files: keys, how long they count, revocations, minimum releases.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
)

TrustFile = Annotated[
    Path, typer.Argument(help="A trust file, JSON or YAML.", show_default=False, metavar="FILE")
]


@app.command("show", epilog="Example: edgepack trust show trust.json --json")
def show(file: TrustFile, json: Json = False) -> None:
    """Print whom a trust file trusts; it is checked whole."""
    from edgepack.trust.trustfile import load_trust

    _print(load_trust(file), json)


@app.command(
    "add",
    epilog="Example: edgepack trust add trust.json --key release.pub.pem --name 'release 2026' --app digits",
)
def add(
    file: TrustFile,
    key: Annotated[Path, typer.Option("--key", help="The public key.", show_default=False)],
    name: Annotated[
        str, typer.Option("--name", help="What it is called in messages.", show_default=False)
    ],
    days: Annotated[int, typer.Option("--days", min=1, help="For how long it counts.")] = 730,
    apps: Annotated[
        list[str] | None,
        typer.Option("--app", help="An app that it may sign. Repeatable. [default: all]"),
    ] = None,
    json: Json = False,
) -> None:
    """Trust a key from now on; makes the file if it is not there. To rotate: add the new key, sign with it, revoke the old."""
    from edgepack.trust.trustfile import add_key

    _print(add_key(file, key, name=name, days=days, apps=apps or ()), json)


@app.command(
    "revoke", epilog="Example: edgepack trust revoke trust.json 3f9a1c --reason 'stolen laptop'"
)
def revoke(
    file: TrustFile,
    key_id: Annotated[str, typer.Argument(help="The key's id, or how it begins.", metavar="ID")],
    reason: Annotated[str, typer.Option("--reason", help="Shown to whom it concerns.")],
    json: Json = False,
) -> None:
    """Trust a key no more, also in what it signed before."""
    from edgepack.trust.trustfile import revoke as revoke_key

    _print(revoke_key(file, key_id, reason=reason), json)


@app.command(
    "require", epilog="Example: edgepack trust require trust.json --app digits --release-seq 7"
)
def require(
    file: TrustFile,
    name: Annotated[str, typer.Option("--app", help="The app.", show_default=False)],
    release_seq: Annotated[
        int,
        typer.Option(
            "--release-seq",
            min=0,
            help="Its oldest release that may be installed.",
            show_default=False,
        ),
    ],
    json: Json = False,
) -> None:
    """Refuse releases of an app that come before one; it can be raised, not lowered."""
    from edgepack.trust.trustfile import require_release

    _print(require_release(file, name, release_seq), json)


@app.command(
    "sign",
    epilog="Example: edgepack trust sign trust.json --key release.pem -o trust.signed.json",
)
def sign(
    file: TrustFile,
    key: KeyOption,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where it goes.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Sign a trust file, so that boards that trust the key take it in place of theirs."""
    from edgepack.cli.show import print_json
    from edgepack.trust.keys import load_private
    from edgepack.trust.signature import write_whole
    from edgepack.trust.trustfile import sign_trust

    signing = load_private(key, ask_password)
    write_whole(output, sign_trust(file, signing))
    if json:
        print_json({"file": str(output), "key_id": signing.id})
    else:
        typer.echo(f"{output}: signed with key {signing.id}")


@app.command(
    "accept",
    epilog="Example: edgepack trust accept trust.signed.json --old trust.json -o trust.json",
)
def accept(
    file: Annotated[
        Path, typer.Argument(help="What `trust sign` wrote.", show_default=False, metavar="SIGNED")
    ],
    old: Annotated[
        Path, typer.Option("--old", help="The trust file that it replaces.", show_default=False)
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where the new one goes.", show_default=False)
    ],
    json: Json = False,
) -> None:
    """Take a signed trust file in place of an older one, by the rules that boards apply."""
    from edgepack.trust.rules import refusals, rules
    from edgepack.trust.signature import write_whole
    from edgepack.trust.trustfile import load_trust, renewed

    with refusals():
        data = rules().read_file(str(file), "trust-file", "give what `edgepack trust sign` wrote")
    trust, text = renewed(load_trust(old), data, str(file))
    write_whole(output, text)
    _print(trust, json)


def _print(trust: Any, as_json: bool) -> None:
    from edgepack.cli.show import print_json, trust_table
    from edgepack.trust.trustfile import describe

    data = describe(trust)
    if as_json:
        print_json(data)
    else:
        trust_table(data)
