"""One board's flash, from the first connection to its outcome, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import getpass
import secrets
import socket
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

from edgepack.errors import EdgepackError, FlashError
from edgepack.flash import agent as agents
from edgepack.flash.agent import Agent, Message, plain
from edgepack.flash.host import Host
from edgepack.flash.link import Link, LinkError, answers, connected
from edgepack.flash.options import FlashOptions
from edgepack.flash.payload import Payload
from edgepack.flash.progress import FlashProgress
from edgepack.flash.report import OUTCOMES, BoardResult
from edgepack.flash.upload import send

PROTOCOL = 1
#: Files that are sent at once: small ones cost a round trip each for opening, syncing, closing.
_AT_ONCE = 4
_HEARTBEAT_S = 5.0
_POLL_S = 1.0
#: Of a trial, what is kept for the confirmation to get there.
_SPARE_S = 3.0
#: After a trial's end, for the board to settle it.
_SETTLED_S = 120.0
#: Conversations that end in the middle and bring nothing new.
_FRUITLESS = 4
#: Up to here the board writes nothing.
_NOTHING_WRITTEN = ("CONNECT", "AGENT", "RECONNECT", "LOCK", "PREFLIGHT")
_BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0)


class Session:
    """A board while it is flashed."""

    def __init__(
        self, host: Host, payload: Payload, options: FlashOptions, progress: FlashProgress
    ) -> None:
        self._host, self._payload, self._options, self._progress = host, payload, options, progress
        self._flash_id = secrets.token_hex(8)
        self._began = monotonic()
        self._state, self._states = "", {""}
        self._links = self._sent = 0
        # From `uploaded` on the board goes on alone.
        self._handed_over = self._ever_handed_over = False

    async def run(self) -> BoardResult:
        """The board's outcome; errors are part of it."""
        try:
            done = await self._until_done()
        except EdgepackError as error:
            if self._ever_handed_over:
                outcome = "unknown"
            elif self._links == 0 or isinstance(error, LinkError):
                outcome = "unreachable"
            else:
                outcome = "refused" if self._state in _NOTHING_WRITTEN else "failed"
            return self._result(outcome, error=error)
        return self._of_agent(done)

    def interrupted(self) -> BoardResult:
        """What is known of a board whose flash the user ended."""
        if self._ever_handed_over:
            cause = "interrupted after all was sent: the board goes on alone, and back unless it is confirmed in time"
        else:
            cause = "interrupted before anything was switched"
        fix = f"ask it: edgepack board status {self._host.name}; or flash again"
        return self._result("interrupted", error=FlashError(cause, fix, kind="interrupted"))

    async def _until_done(self) -> Message:
        """The agent's last word, in spite of broken links.

        A link that breaks is tried again for as long as the user's patience lasts. Who never answered gets one try, and an agent that
        ends again and again without a byte or a state more a few.
        """
        broke, tries = monotonic(), 0
        while True:
            links, far = self._links, (self._sent, len(self._states))
            try:
                return await self._over_one_link()
            except LinkError as error:
                if self._links > links and error.kind != "locked":
                    broke = monotonic()
                    tries = tries + 1 if far == (self._sent, len(self._states)) else 0
                patient = monotonic() - broke < self._options.patience_s
                if self._links == 0 or tries > _FRUITLESS or not patient:
                    raise
            self._enter("RECONNECT")
            await asyncio.sleep(_BACKOFF_S[min(tries, len(_BACKOFF_S) - 1)])

    async def _over_one_link(self) -> Message:
        if self._links == 0:
            self._enter("CONNECT")
        async with connected(self._host) as link:
            self._links += 1
            await self._bring_agent(link)
            if self._handed_over:
                if done := await self._follow(link):
                    return done
                self._handed_over = False
            done = await self._converse(link)
            error = agents.error_in(done)
            if error is not None and error.kind == "locked" and self._links > 1:
                # The agent of the link that broke has not noticed yet.
                raise LinkError(error.cause, error.fix, kind=error.kind)
            return done

    async def _bring_agent(self, link: Link) -> None:
        """The bundle's agent on the board; one that is there already admits it first."""
        sha256, installed = self._payload.agent_sha256, await agents.current(link)
        if installed == sha256:
            return
        self._enter("AGENT")
        if installed is None and not self._payload.vouched:
            raise FlashError(
                f"nothing was flashed to {self._host.name} yet, and nobody said whom to trust",
                "add --trust FILE: a stranger's agent is not run there",
                kind="trust-file",
            )
        await agents.bring(link, self._payload.agent, sha256, lambda n: None)
        if installed is None:
            return
        order = ["admit", agents.place_of(link, sha256)]
        place = agents.place_of(link, installed)
        async with agents.started(link, place, installed, order, self._payload.app) as agent:
            await agent.send(self._begin())
            _require_admitted(self._host, await agent.done())

    @asynccontextmanager
    async def _agent(self, link: Link) -> AsyncIterator[Agent]:
        sha256 = self._payload.agent_sha256
        place = agents.place_of(link, sha256)
        async with agents.started(link, place, sha256, ["flash"], self._payload.app) as agent:
            yield agent

    async def _converse(self, link: Link) -> Message:
        async with self._agent(link) as agent, _heartbeat(agent):
            await agent.send(self._begin())
            limit: float | None = None
            while (message := await self._heard(agent, limit))["type"] != "done":
                self._hear(message)
                if message["type"] == "need":
                    if self._options.dry_run:
                        await agent.end()
                        return {"outcome": "ready"}
                    await self._upload(link, message)
                    self._handed_over = self._ever_handed_over = True
                    await agent.send({"type": "uploaded"})
                elif message["type"] == "confirm?":
                    seconds = message.get("seconds")
                    left = float(seconds) if isinstance(seconds, (int, float)) else 0.0
                    if await self._answers_in(left):
                        await agent.send({"type": "confirm"})
                    limit = left + _SETTLED_S
            return message

    async def _heard(self, agent: Agent, seconds: float | None) -> Message:
        """The next message; a link over which nothing comes in time counts as broken."""
        try:
            return await asyncio.wait_for(agent.receive(), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise LinkError(
                f"{self._host.name} says nothing, though its trial must be over",
                f"ask it: edgepack board status {self._host.name}",
                kind="link",
            ) from None

    def _begin(self) -> Message:
        p = self._payload
        return {
            "type": "begin",
            "protocol": PROTOCOL,
            "flash_id": self._flash_id,
            "from": f"{getpass.getuser()}@{socket.gethostname()}"[:200],
            "manifest": b64encode(p.manifest).decode(),
            "signature": b64encode(p.signature).decode() if p.signature is not None else None,
            "trust": b64encode(p.trust).decode() if p.trust is not None else None,
            "options": self._options.as_message(),
        }

    async def _upload(self, link: Link, need: Message) -> None:
        """Send what the board lacks, a few files at a time."""
        files = _needed(self._host, need, self._payload)
        total, done = sum(f["size"] - f["offset"] for f in files), 0
        slots = asyncio.Semaphore(_AT_ONCE)

        def moved(count: int) -> None:
            nonlocal done
            done += count
            self._sent += count
            self._progress.upload(self._host.name, done, total)

        async def one(file: dict[str, Any]) -> None:
            async with slots:
                source = self._payload.files[file["sha256"]]
                await send(link, source, file["path"], file["offset"], moved)

        self._progress.upload(self._host.name, 0, total)
        sending = [asyncio.ensure_future(one(f)) for f in files]
        try:
            await asyncio.gather(*sending)
        finally:
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)

    async def _answers_in(self, seconds: float) -> bool:
        """Whether the board, with the new release running, lets a new connection in before its time is up."""
        deadline = monotonic() + seconds - _SPARE_S
        for pause in (*_BACKOFF_S, *[_BACKOFF_S[-1]] * 1000):
            try:
                await answers(self._host)
                return True
            except FlashError:
                if monotonic() + pause > deadline:
                    return False
            await asyncio.sleep(pause)
        return False

    async def _follow(self, link: Link) -> Message | None:
        """What became of a flash that was handed over before the link broke; None: the board never began."""
        sha256 = self._payload.agent_sha256
        place = agents.place_of(link, sha256)

        async def ask(*order: str) -> Message:
            return await agents.ask(link, place, sha256, order, self._payload.app)

        while True:
            status = (await ask("status")).get("status")
            if not isinstance(status, dict):
                raise FlashError(
                    f"the agent on {self._host.name} says no status", "flash again", kind="agent"
                )
            last, trial = status.get("last"), status.get("trial")
            measured = {"report": status.get("report")}
            if isinstance(last, dict) and last.get("flash_id") == self._flash_id:
                return {**last, **measured}
            if isinstance(trial, dict) and trial.get("release") == self._payload.release:
                self._enter("TRIAL")
                if not self._options.unattended:
                    answer = await ask("confirm", self._payload.release)
                    if answer.get("outcome") == "committed":
                        return {**answer, **measured}
            elif not status.get("lock"):
                return None
            await asyncio.sleep(_POLL_S)

    def _hear(self, message: Message) -> None:
        if message["type"] == "state":
            self._enter(plain(message.get("state")), plain(message.get("detail") or ""))
        elif message["type"] == "progress":
            self._progress.state(self._host.name, self._state, plain(message.get("detail") or ""))

    def _enter(self, state: str, detail: str = "") -> None:
        self._state = state
        self._states.add(state)
        self._progress.state(self._host.name, state, detail)

    def _of_agent(self, done: Message) -> BoardResult:
        outcome = str(done.get("outcome"))
        if outcome not in OUTCOMES:
            return self._result(
                "unknown", error=_odd(self._host, f"says the outcome {plain(outcome)!r}")
            )
        if outcome == "unchanged" and self._ever_handed_over:
            outcome = "committed"  # by this very flash, whose answer was lost
        report = done.get("report")
        return self._result(
            outcome,
            error=agents.error_in(done),
            release=plain(done["release"]) if done.get("release") else None,
            # The last state that it said may be older: a new connection confirmed the trial.
            state="COMMIT" if outcome == "committed" else plain(done.get("state") or self._state),
            report=report if isinstance(report, dict) else {},
        )

    def _result(self, outcome: str, *, error: EdgepackError | None, **more: Any) -> BoardResult:
        return BoardResult(
            name=self._host.name,
            address=f"{self._host.address}:{self._host.port or 22}",
            outcome=outcome,
            error=None
            if error is None
            else {"kind": error.kind, "cause": error.cause, "fix": error.fix},
            sent_bytes=self._sent,
            seconds=round(monotonic() - self._began, 2),
            links=self._links,
            **{"state": self._state, **more},
        )


@asynccontextmanager
async def _heartbeat(agent: Agent) -> AsyncIterator[None]:
    """The board hears that somebody is here: a cable that was pulled would hold its lock for hours."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(_HEARTBEAT_S)
            await agent.send({"type": "alive"})

    task = asyncio.ensure_future(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _needed(host: Host, need: Message, payload: Payload) -> list[dict[str, Any]]:
    """The files that a board asks for, if they are the bundle's."""
    files = need.get("files")
    if not isinstance(files, list):
        raise _odd(host, "does not say which files it needs")
    for file in files:
        source = payload.files.get(str(file.get("sha256"))) if isinstance(file, dict) else None
        if source is None or not isinstance(file.get("path"), str):
            raise _odd(host, "asks for a file that the bundle does not have")
        size, offset = source.stat().st_size, file.get("offset")
        if file.get("size") != size or type(offset) is not int or not 0 <= offset <= size:
            raise _odd(host, f"asks for bytes that {source.name} does not have")
    return files


def _require_admitted(host: Host, answer: Message) -> None:
    if answer.get("outcome") != "admitted":
        raise agents.error_in(answer) or _odd(host, "does not admit the one of this bundle")


def _odd(host: Host, what: str) -> FlashError:
    return FlashError(
        f"the agent on {host.name} {what}",
        "flash with the edgepack that built the bundle",
        kind="agent",
    )
