"""What a board is asked beside a flash: status, rollback, history, doctor."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import tempfile
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import asyncssh

from edgepack.errors import FlashError
from edgepack.flash import agent as agents
from edgepack.flash.agent import Message
from edgepack.flash.host import Host
from edgepack.flash.link import Link, connected
from edgepack.flash.payload import own_agent
from edgepack.flash.upload import send
from edgepack.names import NAME

ORDERS = ("status", "rollback", "history", "doctor")
#: Every app that is there is asked.
_OF_ALL_APPS = ("status",)
#: In the place of an app where there is none.
_NO_APP = "app"


def order(host: Host, what: str, app: str | None) -> dict[str, Message]:
    """The answers of a board to one of ORDERS, by app.

    Args:
        app: None: the one that is there; for `status` all of them. `doctor` does without.

    Raises:
        FlashError: it cannot be reached, no bundle was flashed to it, or there are several apps. LinkError: the link broke.
    """
    return asyncio.run(_order(host, what, app))


async def _order(host: Host, what: str, app: str | None) -> dict[str, Message]:
    async with connected(host) as link:
        installed = await agents.current(link)
        if installed is None and what == "doctor":
            return await _first_visit(link, app or _NO_APP)
        if installed is None:
            raise FlashError(
                f"{host.name} has no agent below {host.root}",
                "flash a bundle first, or give the --root it was flashed to",
                kind="agent",
            )
        names = [app] if app is not None else await _apps(link)
        if what not in _OF_ALL_APPS and len(names) > 1:
            raise FlashError(
                f"{host.name} has {len(names)} apps: {', '.join(names)}", "add --app", kind="app"
            )
        place = agents.place_of(link, installed)
        return {name: await agents.ask(link, place, installed, [what], name) for name in names}


async def _first_visit(link: Link, app: str) -> dict[str, Message]:
    """What ails a board that nothing was flashed to: asked by an agent of ours, which is gone afterwards."""
    data = own_agent()
    place = f"{await link.sftp.realpath('.')}/.edgepack-{secrets.token_hex(4)}.pyz"
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            await send(link, Path(file.name), place, 0, lambda count: None)
            digest = sha256(data).hexdigest()
            return {app: await agents.ask(link, place, digest, ["doctor"], app)}
        finally:
            with contextlib.suppress(asyncssh.SFTPError):
                await link.sftp.remove(place)


async def _apps(link: Link) -> list[str]:
    """The apps below the root."""
    try:
        found: Sequence[str] = await link.sftp.listdir(link.host.root)
    except asyncssh.SFTPError as error:
        if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
            raise
        found = ()
    names = sorted(n for n in found if re.fullmatch(NAME, n) and n != "agent")
    if not names:
        raise FlashError(
            f"{link.host.name} has no app below {link.host.root}",
            "flash a bundle first, or give the --root it was flashed to",
            kind="app",
        )
    return names
