"""A fleet's progress on stderr: a live line a board on a terminal, a printed line a step elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from edgepack.cli.show import size
from edgepack.flash.progress import FlashProgress
from edgepack.flash.report import BoardResult

#: Between two printed lines of one upload, and of one state: an engine is built for half an hour.
_EVERY_S, _EVERY_DETAIL_S = 5.0, 30.0


@contextmanager
def live_fleet() -> Iterator[FlashProgress]:
    """A progress to hand to a fleet."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    columns = (
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        yield _Live(bars)


class _Live(FlashProgress):
    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._lines: dict[str, TaskID] = {}

    def fleet(self, names: list[str]) -> None:
        for name in names:
            self._lines[name] = self._bars.add_task(
                escape(name), total=None, state="waiting", start=False
            )

    def state(self, board: str, state: str, detail: str = "") -> None:
        shown = f"{state} [dim]{escape(detail[:60])}[/]" if detail else escape(state)
        self._bars.update(self._lines[board], state=shown)

    def upload(self, board: str, done: int, total: int) -> None:
        line = self._lines[board]
        if done == 0:  # a new link: what is left, at its own rate
            self._bars.reset(line, total=total, start=True)
        self._bars.update(line, completed=done)

    def finish(self, result: BoardResult) -> None:
        colour = "green" if result.on_release or result.outcome == "ready" else "red"
        line = self._lines[result.name]
        self._bars.update(line, state=f"[{colour}]{result.outcome}[/]")
        self._bars.stop_task(line)


class _Lines(FlashProgress):
    def __init__(self) -> None:
        self._start = monotonic()
        self._said: dict[str, tuple[float, int]] = {}
        self._entered: dict[str, tuple[str, float]] = {}

    def state(self, board: str, state: str, detail: str = "") -> None:
        now = monotonic()
        known, then = self._entered.get(board, ("", now))
        if state == known and now - then < _EVERY_DETAIL_S:
            return
        self._entered[board] = (state, now)
        self._say(f"{board}: {state}{f' ({detail})' if detail else ''}")

    def upload(self, board: str, done: int, total: int) -> None:
        now = monotonic()
        if done == 0:
            self._said[board] = (now, 0)
            self._say(f"{board}: {size(total)} to send")
            return
        then, before = self._said[board]
        if now - then < _EVERY_S:
            return
        rate = (done - before) / (now - then)
        left = f"{(total - done) / rate:.0f} s left" if rate else "stalled"
        self._said[board] = (now, done)
        self._say(f"{board}: {size(done)} of {size(total)}, {size(int(rate))}/s, {left}")

    def finish(self, result: BoardResult) -> None:
        cause = f": {result.error['cause']}" if result.error else ""
        self._say(f"{result.name}: {result.outcome}{cause}")

    def _say(self, text: str) -> None:
        print(f"[{monotonic() - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)
