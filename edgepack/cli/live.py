"""Progress on stderr: one live line a lane on a terminal, one printed line a stage elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import (
    BarColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import (
    Progress as Bars,
)

from edgepack.progress import Progress


@contextmanager
def live_progress(*, quiet: bool) -> Iterator[Progress]:
    """A progress to hand to the API; silent with `quiet`."""
    if quiet:
        yield Progress()
    elif sys.stderr.isatty():
        columns = (
            SpinnerColumn(finished_text="[green]✓[/]"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[stage]}"),
            TimeElapsedColumn(),
        )
        with Bars(*columns, console=Console(stderr=True)) as bars:
            yield _Live(bars)
    else:
        yield _Lines()


class _Live(Progress):
    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._lanes: dict[str, TaskID] = {}
        self._begun: set[str] = set()

    def start(self, lane: str, total: int) -> None:
        self._lanes[lane] = self._bars.add_task(lane, total=total, stage="waiting", start=False)

    def stage(self, lane: str, name: str) -> None:
        if lane in self._begun:
            self._bars.advance(self._lanes[lane])
        else:
            self._bars.start_task(self._lanes[lane])
        self._begun.add(lane)
        task = self._bars.tasks[self._lanes[lane]]
        # Nobody knows beforehand how long a search is.
        if task.total is not None and task.completed + 1 > task.total:
            self._bars.update(task.id, total=task.completed + 1)
        self._bars.update(self._lanes[lane], stage=name)

    def finish(self, lane: str, summary: str) -> None:
        self._bars.advance(self._lanes[lane])
        self._bars.update(self._lanes[lane], stage=summary)


class _Lines(Progress):
    def __init__(self) -> None:
        self._start = monotonic()

    def stage(self, lane: str, name: str) -> None:
        self._say(f"{lane}: {name} …")

    def finish(self, lane: str, summary: str) -> None:
        self._say(f"{lane}: done ({summary})")

    def _say(self, text: str) -> None:
        print(f"[{monotonic() - self._start:6.1f} s] {text}", file=sys.stderr, flush=True)
