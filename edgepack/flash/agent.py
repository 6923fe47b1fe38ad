"""The agent on a board: brought there, started, spoken to. Nothing but a fixed argument list, quoted, passes through the board's shell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import shlex
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import asyncssh

from edgepack.errors import FlashError
from edgepack.flash.link import Link, LinkError
from edgepack.flash.upload import Moved, explain, send

#: Checks what it is about to run; the numbers are exit codes that no agent has.
_OLD_PYTHON, _NOT_OURS = 98, 97
_LAUNCH = (
    "import hashlib,runpy,sys; "
    f"sys.version_info>=(3,8) or sys.exit({_OLD_PYTHON}); "
    "p=sys.argv[1]; "
    f"hashlib.sha256(open(p,'rb').read()).hexdigest()==sys.argv[2] or sys.exit({_NOT_OURS}); "
    "sys.argv=[p]+sys.argv[3:]; "
    "runpy.run_path(p,run_name='__main__')"
)
_NO_SUCH_PROGRAM = 127
#: A line of an agent, and what it may say on stderr before somebody should worry.
_LINE, _STDERR = 16 << 20, 64 << 10
_SHOWN = 2000
_END_S = 20

Message = dict[str, Any]


class Agent:
    """A running agent: messages in, messages out."""

    def __init__(self, link: Link, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self._link, self._process = link, process
        self._rest = b""
        self._stderr = asyncio.ensure_future(_tail(process.stderr))
        self._sending = asyncio.Lock()

    async def send(self, message: Mapping[str, Any]) -> None:
        """Write a message; an agent that is gone will show when it is read."""
        async with self._sending:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                await self._process.stdin.drain()

    async def end(self) -> None:
        """Say that nothing more comes, and wait until it has let go; not for long."""
        with contextlib.suppress(BrokenPipeError, FlashError, asyncio.TimeoutError):
            self._process.stdin.write_eof()
            await asyncio.wait_for(self.done(), _END_S)

    async def receive(self) -> Message:
        """The next message.

        Raises:
            LinkError: the link broke. FlashError: kind `python`, `agent`: it ended, or says what no agent says.
        """
        while b"\n" not in self._rest:
            data = await self._process.stdout.read(1 << 16)
            if not data:
                raise await self._death()
            self._rest += data
            if len(self._rest) > _LINE:
                raise self._nonsense("a line that does not end")
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict) or not isinstance(message.get("type"), str):
            raise self._nonsense(line[:200].decode(errors="replace"))
        return message

    async def done(self) -> Message:
        """The last message, whatever comes before it."""
        while (message := await self.receive())["type"] != "done":
            pass
        return message

    def close(self) -> None:
        """Let go of it; it goes on alone, or ends by itself."""
        self._stderr.cancel()
        self._process.close()

    async def _death(self) -> FlashError:
        await self._process.wait_closed()
        name, code = self._link.host.name, self._process.exit_status
        with contextlib.suppress(Exception):
            await asyncio.wait_for(asyncio.shield(self._stderr), 2)
        said = plain(self._stderr.result()) if self._stderr.done() else ""
        if code is None and self._process.exit_signal is None:
            return LinkError(f"the connection to {name} broke", "run it again", kind="link")
        if code == _NO_SUCH_PROGRAM:
            return FlashError(
                f"{name} has no python3: {said}", "install Python 3.8 or newer there", kind="python"
            )
        if code == _OLD_PYTHON:
            return FlashError(
                f"python3 on {name} is older than 3.8", "install a newer one there", kind="python"
            )
        if code == _NOT_OURS:
            return FlashError(
                f"the agent on {name} is not the one that was sent (its SHA-256 differs)",
                "run it again; if it stays so, the board's disk is damaged or somebody else writes there",
                kind="agent",
            )
        end = self._process.exit_signal[0] if self._process.exit_signal else f"exit code {code}"
        return LinkError(
            f"the agent on {name} ended with {end}: {said or 'it said nothing'}",
            f"see: edgepack board history {name}",
            kind="agent",
        )

    def _nonsense(self, said: str) -> FlashError:
        return FlashError(
            f"what answers on {self._link.host.name} is no agent: {plain(said)}",
            "see what the board's shell prints at login: ssh HOST true must print nothing",
            kind="agent",
        )


@asynccontextmanager
async def started(
    link: Link, program: str, sha256: str, order: Sequence[str], app: str
) -> AsyncIterator[Agent]:
    """The agent in `program`, if its SHA-256 is that, with an order to an app."""
    argv = [*("python3", "-I", "-S", "-c", _LAUNCH, program, sha256)]
    argv += ["--root", link.host.root, "--app", app, *order]
    process = await link.ssh.create_process(shlex.join(argv), encoding=None)
    agent = Agent(link, process)
    try:
        yield agent
    finally:
        agent.close()


async def ask(link: Link, program: str, sha256: str, order: Sequence[str], app: str) -> Message:
    """What the agent answers to an order that needs no conversation."""
    async with started(link, program, sha256, order, app) as agent:
        return await agent.done()


def place_of(link: Link, sha256: str) -> str:
    """Where an agent lies on the board."""
    return f"{link.host.root}/agent/{sha256}.pyz"


async def current(link: Link) -> str | None:
    """The SHA-256 by which the board's own agent goes; None: it has none."""
    try:
        target = await link.sftp.readlink(f"{link.host.root}/agent/current.pyz")
    except asyncssh.SFTPError as error:
        if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
            raise
        return None
    stem = PurePosixPath(str(target)).stem
    return stem if len(stem) == 64 and set(stem) <= set("0123456789abcdef") else None


async def bring(link: Link, agent: Path, sha256: str, moved: Moved) -> None:
    """Put an agent where agents lie, unless it is there: whole or not at all."""
    place = place_of(link, sha256)
    folder = str(PurePosixPath(place).parent)
    aside = f"{folder}/.{sha256[:16]}.{secrets.token_hex(4)}.part"
    try:
        if await link.sftp.exists(place) and await link.sftp.getsize(place) == agent.stat().st_size:
            return
        await link.sftp.makedirs(folder, exist_ok=True)
        await send(link, agent, aside, 0, moved)
        await link.sftp.posix_rename(aside, place)
    except asyncssh.SFTPError as error:
        if isinstance(error, (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection)):
            raise
        raise await explain(link, place, error) from error


def error_in(answer: Message) -> FlashError | None:
    """The error that a last message has, if it has one."""
    error = answer.get("error")
    if not isinstance(error, dict):
        return None
    kind, cause, fix = (plain(error.get(k, "")) for k in ("kind", "cause", "fix"))
    return FlashError(cause, fix, kind=kind)


def plain(text: object) -> str:
    """What a board says, without characters that would act on a terminal, and not too much of it."""
    said = text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    kept = "".join(c if c.isprintable() else " " for c in said).strip()
    return kept if len(kept) <= _SHOWN else f"…{kept[-_SHOWN:]}"


async def _tail(stream: asyncssh.SSHReader[bytes]) -> bytes:
    """The end of what is said on stderr."""
    said = b""
    while data := await stream.read(1 << 14):
        said = (said + data)[-_STDERR:]
    return said
