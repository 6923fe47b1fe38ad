"""`edgepack board`: what a board runs, back to what it ran before, its journal, and what ails it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgepack.cli.flash import (
    Fingerprint,
    Identity,
    InventoryOption,
    Root,
    picked,
    require_asyncssh,
)
from edgepack.cli.options import Json

_EPILOG = """Examples:

edgepack board status root@10.0.0.7

edgepack board rollback cam-1 --inventory fleet.yaml --app digits

edgepack board history edge@cam-1 --root /srv/edgepack --json

edgepack board doctor root@10.0.0.7"""

app = typer.Typer(
    help="One board: status, rollback, history, doctor.",
    epilog=_EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
)

HostArgument = Annotated[
    str,
    typer.Argument(
        metavar="HOST", help="[user@]host[:port], or a name in the inventory.", show_default=False
    ),
]
App = Annotated[str | None, typer.Option("--app", help="Where the board has several.")]


@app.command("status", epilog="Example: edgepack board status root@10.0.0.7 --json")
def status(
    host: HostArgument,
    name: App = None,
    inventory: InventoryOption = None,
    identity: Identity = None,
    root: Root = None,
    host_fingerprint: Fingerprint = None,
    json: Json = False,
) -> None:
    """Which release each app runs, which it goes back to, and what is under way."""
    answers = _ask("status", host, name, inventory, identity, root, host_fingerprint)
    _print({app: answer.get("status") or {} for app, answer in answers.items()}, "status", json)


@app.command("rollback", epilog="Example: edgepack board rollback root@10.0.0.7 --app digits")
def rollback(
    host: HostArgument,
    name: App = None,
    inventory: InventoryOption = None,
    identity: Identity = None,
    root: Root = None,
    host_fingerprint: Fingerprint = None,
    json: Json = False,
) -> None:
    """Back to the release before, by one rename, probed as at a flash."""
    answers = _ask("rollback", host, name, inventory, identity, root, host_fingerprint)
    _print(answers, "rollback", json)


@app.command("history", epilog="Example: edgepack board history root@10.0.0.7 --app digits --json")
def history(
    host: HostArgument,
    name: App = None,
    inventory: InventoryOption = None,
    identity: Identity = None,
    root: Root = None,
    host_fingerprint: Fingerprint = None,
    json: Json = False,
) -> None:
    """The board's journal: every flash, switch, rollback and recovery, with who asked for it."""
    answers = _ask("history", host, name, inventory, identity, root, host_fingerprint)
    _print({app: answer.get("events") or [] for app, answer in answers.items()}, "history", json)


@app.command("doctor", epilog="Example: edgepack board doctor root@10.0.0.7")
def doctor(
    host: HostArgument,
    name: App = None,
    inventory: InventoryOption = None,
    identity: Identity = None,
    root: Root = None,
    host_fingerprint: Fingerprint = None,
    json: Json = False,
) -> None:
    """What the board is, what is missing on it, and what to do about it; also before the first flash. Exit code 14 if something is."""
    from edgepack.errors import FlashError

    answers = _ask("doctor", host, name, inventory, identity, root, host_fingerprint)
    checks = {app: answer.get("checks") or [] for app, answer in answers.items()}
    _print(checks, "doctor", json)
    if not all(check.get("ok") for found in checks.values() for check in found):
        raise typer.Exit(FlashError.exit_code)


def _ask(
    what: str,
    host: str,
    app: str | None,
    inventory: Path | None,
    identity: Path | None,
    root: str | None,
    fingerprint: str | None,
) -> dict[str, Any]:
    """The board's answers by app; an error of its own is raised."""
    from edgepack.names import app_name

    require_asyncssh()
    from edgepack.flash.agent import error_in
    from edgepack.flash.orders import order

    (board,) = picked([host], inventory, [], identity, root, fingerprint)
    answers = order(board, what, app_name(app, Path()) if app is not None else None)
    for answer in answers.values():
        if error := error_in(answer):
            raise error
    return answers


def _print(answers: dict[str, Any], what: str, as_json: bool) -> None:
    from edgepack.cli import show, show_fleet

    if as_json:
        show.print_json(answers)
        return
    for app, answer in answers.items():
        if what == "status":
            show_fleet.status_text(app, answer)
        elif what == "history":
            show_fleet.history_table(app, answer)
        elif what == "doctor":
            show_fleet.doctor_table(answer)
        else:
            typer.echo(f"{app}: {answer.get('outcome')}: {answer.get('release') or ''}")
