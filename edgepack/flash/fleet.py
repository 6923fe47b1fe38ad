"""Many boards: in waves, a few at once, until all are done or too many failed."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.flash.host import Host, twice
from edgepack.flash.options import FlashOptions
from edgepack.flash.payload import Payload
from edgepack.flash.progress import FlashProgress
from edgepack.flash.report import BoardResult, FleetReport
from edgepack.flash.session import Session

#: After the canary, of all boards.
_SECOND_WAVE = 0.1


def waves(hosts: Sequence[Host], canary: str | int | None) -> list[list[Host]]:
    """The boards in the order of their turns: the canary, a tenth of all, the rest.

    Args:
        canary: how many go first, or the name of the one that does; None: one, if there are several boards.

    Raises:
        UsageError: no such board.
    """
    if isinstance(canary, str):
        first = [h for h in hosts if h.name == canary]
        if not first:
            raise UsageError(
                f"--canary {canary}: there is no such board here",
                f"boards are: {', '.join(h.name for h in hosts)}; or give a number",
            )
    else:
        first = list(hosts[: (1 if canary is None else canary)])
    rest = [h for h in hosts if h not in first]
    second = math.ceil(len(hosts) * _SECOND_WAVE) if first else 0
    return [wave for wave in (first, rest[:second], rest[second:]) if wave]


class Fleet:
    """Flashes boards and keeps their report up to date."""

    def __init__(
        self,
        hosts: Sequence[Host],
        payload: Payload,
        options: FlashOptions,
        *,
        canary: str | int | None = None,
        concurrency: int = 8,
        max_failures: int = 0,
        earlier: FleetReport | None = None,
        report: Path | None = None,
        progress: FlashProgress | None = None,
    ) -> None:
        """Args:
            earlier: boards that it has on the release are left alone.
            report: a file that has the report after each board.

        Raises:
            UsageError: no boards, one address twice, a canary that is not there, an earlier report of another bundle.
        """
        _require_sound(hosts, payload, earlier)
        self._options, self._payload, self._report_place = options, payload, report
        self._progress = progress or FlashProgress()
        self._slots, self._max_failures = concurrency, max_failures
        kept = {b.name: b for b in earlier.boards if b.on_release} if earlier else {}
        self._hosts = list(hosts)
        self._results: dict[str, BoardResult] = {
            h.name: kept[h.name] for h in hosts if h.name in kept
        }
        self._waves = (
            waves([h for h in hosts if h.name not in kept], canary)
            if len(kept) < len(hosts)
            else []
        )
        self._stopped = ""

    def run(self) -> FleetReport:
        """Flash them. The report is complete also where somebody ended it: see `interrupted` in its boards."""
        asyncio.run(self._run())
        return self.report()

    def report(self) -> FleetReport:
        """What is known by now; boards that had no turn are `not-started`."""
        boards = [
            self._results.get(h.name)
            or BoardResult(
                name=h.name, address=f"{h.address}:{h.port or 22}", outcome="not-started"
            )
            for h in self._hosts
        ]
        p = self._payload
        bundle = {
            **{"app": p.app, "version": p.version, "seq": p.seq, "target": p.target},
            **{"digest": p.digest, "release": p.release},
        }
        cut = any(b.outcome in ("not-started", "interrupted") for b in boards)
        return FleetReport(
            bundle=bundle,
            boards=tuple(boards),
            dry_run=self._options.dry_run,
            stopped=self._stopped if cut else "",
        )

    async def _run(self) -> None:
        self._write()  # where it cannot be written, no board is begun
        self._progress.fleet([h.name for wave in self._waves for h in wave])
        with _ended_by_signals(asyncio.current_task()):
            try:
                for number, wave in enumerate(self._waves, 1):
                    await self._wave(number, wave)
                    if self._stopped:
                        break
            except asyncio.CancelledError:
                self._stopped = "interrupted"
            self._write()

    async def _wave(self, number: int, wave: list[Host]) -> None:
        slots = asyncio.Semaphore(self._slots)

        async def one(host: Host) -> None:
            async with slots:
                if not self._stopped:
                    await self._board(host, number)

        tasks = [asyncio.ensure_future(one(host)) for host in wave]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _board(self, host: Host, wave: int) -> None:
        session = Session(host, self._payload, self._options, self._progress)
        try:
            result = await session.run()
        except asyncio.CancelledError:
            self._note(replace(session.interrupted(), wave=wave))
            raise
        self._note(replace(result, wave=wave))

    def _note(self, result: BoardResult) -> None:
        self._results[result.name] = result
        self._progress.finish(result)
        failed = [b for b in self._results.values() if not (b.on_release or b.outcome == "ready")]
        canaries = len(self._waves) > 1 and result.wave == 1 and result in failed
        if not self._stopped and (canaries or len(failed) > self._max_failures):
            names = ", ".join(b.name for b in failed)
            why = "a canary failed" if canaries else f"more than {self._max_failures} boards failed"
            self._stopped = f"{why}: {names}"
        self._write()

    def _write(self) -> None:
        if self._report_place is not None:
            self.report().write(self._report_place)


def _require_sound(hosts: Sequence[Host], payload: Payload, earlier: FleetReport | None) -> None:
    if not hosts:
        raise UsageError("no board is named", "give HOST, or --inventory FILE")
    if pair := twice(hosts):
        raise UsageError(
            f"{pair[0].name} and {pair[1].name} are one board",
            "name it once: a board is flashed once at a time",
        )
    if earlier is not None and earlier.bundle.get("digest") != payload.digest:
        raise UsageError(
            f"the report is of release {earlier.bundle.get('release')}, the bundle is {payload.release}",
            "give the bundle that the report is of, or leave --resume out",
        )


@contextlib.contextmanager
def _ended_by_signals(task: asyncio.Task[None] | None) -> Iterator[None]:
    """Ctrl-C and requests to end cancel the task, which says goodbye to the boards; a second one ends at once."""
    loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end() -> None:
        restore()
        if task is not None:
            task.cancel()

    def restore() -> None:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)

    before = {number: signal.getsignal(number) for number in signals}
    installed = True
    try:
        for number in signals:
            loop.add_signal_handler(number, end)
    except (NotImplementedError, RuntimeError, ValueError):  # Windows, or no main thread
        installed = False
    try:
        yield
    finally:
        if installed:
            restore()
