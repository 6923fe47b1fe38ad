"""`edgepack flash`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgepack.cli.options import Json
from edgepack.errors import UsageError

if TYPE_CHECKING:
    from edgepack.flash.host import Host
    from edgepack.flash.report import FleetReport

_EPILOG = """Examples:

edgepack flash dist/digits-jetson-orin root@10.0.0.7 --trust trust.json

edgepack flash digits-jetson-orin.edgepack edge@cam-1 --root /srv/edgepack --restart 'systemctl --user restart digits'

edgepack flash dist/digits-jetson-orin board:2222 --host-fingerprint SHA256:… --dry-run

edgepack flash dist/digits-jetson-orin --inventory fleet.yaml --group hall-a --canary cam-1 --report flash.json

edgepack flash dist/digits-jetson-orin --inventory fleet.yaml --resume flash.json"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("flash", epilog=_EPILOG)(flash)


Identity = Annotated[
    Path | None,
    typer.Option("--identity", "-i", metavar="FILE", help="The private key to log in with."),
]
Root = Annotated[
    str | None,
    typer.Option(
        "--root", metavar="DIR", help="The folder on the board. [default: /var/lib/edgepack]"
    ),
]
Fingerprint = Annotated[
    str | None,
    typer.Option(
        "--host-fingerprint",
        metavar="SHA256:…",
        help="At the first contact with a board: its host key, read on the board. Goes to known_hosts.",
    ),
]
InventoryOption = Annotated[
    Path | None, typer.Option("--inventory", metavar="FILE.yaml", help="Hosts and groups of them.")
]


def flash(
    bundle: Annotated[
        Path, typer.Argument(help="A bundle's folder, or a .edgepack file.", show_default=False)
    ],
    hosts: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[HOST]...",
            help="[user@]host[:port], or names in the inventory.",
            show_default=False,
        ),
    ] = None,
    inventory: InventoryOption = None,
    group: Annotated[
        list[str] | None,
        typer.Option("--group", metavar="NAME", help="Of the inventory. Repeatable."),
    ] = None,
    identity: Identity = None,
    root: Root = None,
    host_fingerprint: Fingerprint = None,
    trust: Annotated[
        Path | None,
        typer.Option(
            "--trust",
            metavar="FILE",
            help="Whom boards are to trust: a trust file; needed at the first flash of an app.",
        ),
    ] = None,
    allow_unsigned: Annotated[
        bool,
        typer.Option(
            "--allow-unsigned", help="Flash a bundle without a signature; it is journalled."
        ),
    ] = False,
    restart: Annotated[
        str | None,
        typer.Option(
            "--restart", metavar="COMMAND", help="Restarts the app on the board. No shell."
        ),
    ] = None,
    probe: Annotated[
        str | None,
        typer.Option(
            "--probe", metavar="COMMAND", help="Exits 0 on the board if the app is well. No shell."
        ),
    ] = None,
    python: Annotated[
        str | None,
        typer.Option(
            "--python",
            metavar="PROGRAM",
            help="The board's Python that has numpy and onnxruntime. [default: python3]",
        ),
    ] = None,
    engine: Annotated[
        str,
        typer.Option(
            "--engine",
            metavar="auto|trtexec|onnxruntime|none",
            help="Who builds TensorRT's engine on the board.",
        ),
    ] = "auto",
    engine_seconds: Annotated[
        int, typer.Option("--engine-seconds", min=1, max=86400, help="How long that may take.")
    ] = 1800,
    trial_seconds: Annotated[
        int,
        typer.Option(
            "--trial-seconds",
            min=5,
            max=86400,
            help="After which an unconfirmed release goes back.",
        ),
    ] = 120,
    unattended: Annotated[
        bool, typer.Option("--unattended", help="The board's own probes decide, not this machine.")
    ] = False,
    canary: Annotated[
        str | None,
        typer.Option(
            "--canary",
            metavar="N|NAME",
            help="Boards that go first; if one fails, no other begins. [default: 1]",
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", min=1, max=256, help="Boards at once.")
    ] = 8,
    max_failures: Annotated[
        int,
        typer.Option("--max-failures", min=0, help="More than these, and no other board begins."),
    ] = 0,
    patience: Annotated[
        int,
        typer.Option("--patience", min=0, help="Seconds for which a broken link is tried again."),
    ] = 120,
    report: Annotated[
        Path | None,
        typer.Option("--report", metavar="FILE.json", help="Has the report after each board."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            metavar="REPORT.json",
            help="Leave boards alone that this report has on the release.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Ask every board whether it would take it; the agent alone is brought there.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Put a bundle on boards: each ends on the new release, proven there, or on the one it had.

    Boards go in waves: the canary, a tenth of all, the rest. A link that breaks is taken up again where it broke; whatever happens to it,
    or to this machine, the board goes back by itself if it is not confirmed. What arrived is not sent again.

    Host keys are checked always, against ~/.ssh/known_hosts; ~/.ssh/config counts. Exit code 14 if a board is not on the release.
    """
    from edgepack.cli.live_fleet import live_fleet
    from edgepack.cli.show import print_json
    from edgepack.cli.show_fleet import fleet_table

    require_asyncssh()
    from edgepack.flash.fleet import Fleet
    from edgepack.flash.options import FlashOptions, as_argv, as_engine
    from edgepack.flash.payload import opened
    from edgepack.flash.report import read_report

    # asyncio warns of every write to a link that broke; what that means is said in the report.
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    earlier = read_report(resume) if resume is not None else None
    named = hosts or []
    if earlier is not None and not named and inventory is None:
        named = [board.name for board in earlier.boards]
    options = FlashOptions(
        restart=as_argv("--restart", restart),
        probe=as_argv("--probe", probe),
        python=python,
        engine=as_engine(engine),
        engine_seconds=engine_seconds,
        trial_seconds=trial_seconds,
        unattended=unattended,
        allow_unsigned=allow_unsigned,
        dry_run=dry_run,
        patience_s=patience,
    )
    boards = picked(named, inventory, group or [], identity, root, host_fingerprint)
    with (
        opened(bundle, trust=trust, allow_unsigned=allow_unsigned) as payload,
        live_fleet() as progress,
    ):
        outcome = Fleet(
            boards,
            payload,
            options,
            canary=int(canary) if canary is not None and canary.isdigit() else canary,
            concurrency=concurrency,
            max_failures=max_failures,
            earlier=earlier,
            report=report if report is not None else resume,
            progress=progress,
        ).run()
    if json:
        print_json(outcome.as_json())
    else:
        fleet_table(outcome)
    _exit(outcome)


def picked(
    names: list[str],
    inventory: Path | None,
    groups: list[str],
    identity: Path | None,
    root: str | None,
    fingerprint: str | None,
) -> list[Host]:
    """The boards that a command is for, with what its options say of all of them.

    Raises:
        UsageError: none, an address that is no address, or one fingerprint for several boards. FlashError: the inventory is not valid.
    """
    from dataclasses import replace

    from edgepack.flash.host import parse_host, require_fingerprint, require_root
    from edgepack.flash.inventory import load_inventory

    if inventory is not None:
        boards = load_inventory(inventory).pick(groups, names)
    elif groups:
        raise UsageError("--group is of an inventory, and there is none", "add --inventory FILE")
    else:
        boards = list({name: parse_host(name) for name in names}.values())
    if fingerprint is not None:
        if len(boards) != 1:
            raise UsageError(
                f"--host-fingerprint is one board's, and there are {len(boards)}",
                "put `fingerprint:` beside each host in the inventory",
            )
        boards = [replace(boards[0], fingerprint=require_fingerprint(fingerprint))]
    if identity is not None:
        boards = [replace(b, identity=identity) for b in boards]
    if root is not None:
        boards = [replace(b, root=require_root(root)) for b in boards]
    return boards


def require_asyncssh() -> None:
    """Raises EnvironmentMissing: asyncssh is not installed."""
    from importlib.util import find_spec

    from edgepack.errors import EnvironmentMissing

    if find_spec("asyncssh") is None:
        raise EnvironmentMissing(
            "flashing needs asyncssh, which is not installed", "pip install 'edgepack[flash]'"
        )


def _exit(outcome: FleetReport) -> None:
    from edgepack.errors import FlashError

    if outcome.stopped == "interrupted":
        # Not as an interruption that wrote nothing: the report says what was done.
        raise SystemExit(130)
    if not outcome.passed:
        raise typer.Exit(FlashError.exit_code)
