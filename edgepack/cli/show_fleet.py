"""A fleet's report, and what one board answers, as tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edgepack.cli.show import size

if TYPE_CHECKING:
    from edgepack.flash.report import FleetReport


#: Of an event: shown before the rest, or of no use to a reader of one board's journal.
_ELSEWHERE = ("time", "event", "boot", "flash")


def fleet_table(report: FleetReport) -> None:
    """Each board's outcome, then the errors with their remedies, then why a wave was stopped."""
    from edgepack.flash.report import OUTCOMES

    console = Console()
    bundle = report.bundle
    title = f"{bundle['app']} {bundle['version']}, release {bundle['release']}"
    table = Table(title=f"{title}{' (dry run)' if report.dry_run else ''}", title_justify="left")
    for heading in ("board", "outcome", "runs now", "sent", "time"):
        table.add_column(heading, no_wrap=True)
    for b in report.boards:
        good = b.on_release or b.outcome == "ready"
        colour = "green" if good else "yellow" if b.outcome == "not-started" else "red"
        began = b.links > 0
        table.add_row(
            escape(b.name),
            f"[{colour}]{b.outcome}[/]",
            escape(b.release or "–"),
            size(b.sent_bytes) if began else "–",
            f"{b.seconds:.1f} s" if began else "–",
        )
    console.print(table)
    for b in report.boards:
        if b.error is not None:
            where = f" in {b.state}" if b.state else ""
            _say(console, f"{b.name}{where}: {b.error['cause']} ({OUTCOMES[b.outcome]})")
            _say(console, f"  fix: {b.error['fix']}")
    if report.stopped:
        _say(console, f"stopped: {report.stopped}")


def history_table(app: str, events: Sequence[dict[str, Any]]) -> None:
    """A board's journal, a line an event."""
    console = Console()
    _say(console, f"{app}: {len(events)} events")
    for event in events:
        rest = {k: v for k, v in event.items() if k not in _ELSEWHERE and v is not None}
        said = "  ".join(f"{k}={v}" for k, v in rest.items())
        _say(console, f"  {event.get('time', '')}  {event.get('event', '')}  {said}")


def status_text(app: str, status: dict[str, Any]) -> None:
    """What runs on a board, what it goes back to, and what is under way."""
    console = Console()
    _say(console, f"{app}: {status.get('current') or 'no release'}")
    latency = (status.get("report") or {}).get("latency")
    if isinstance(latency, dict) and latency.get("median_ms") is not None:
        _say(console, f"  median {latency['median_ms']} ms when it was proven")
    if status.get("previous"):
        _say(console, f"  goes back to {status['previous']}")
    if trial := status.get("trial"):
        _say(console, f"  trial of {trial.get('release')}: {trial.get('seconds')} s left")
    if status.get("lock"):
        _say(console, f"  being worked on by {status['lock']}")
    if status.get("stuck"):
        _say(console, f"  STUCK: {status['stuck']}")
    if last := status.get("last"):
        error = last.get("error") or {}
        why = f": {error.get('cause')}" if error else ""
        _say(console, f"  last flash: {last.get('release')} {last.get('outcome')}{why}")


def doctor_table(checks: Sequence[dict[str, Any]]) -> None:
    """What a board is, what is missing on it, and what to do about it."""
    console = Console()
    table = Table("", "what", "found", "wanted")
    for check in checks:
        mark = "[green]✓[/]" if check.get("ok") else "[red]✗[/]"
        cells = (escape(str(check.get(k, "") or "–")) for k in ("what", "found", "wanted"))
        table.add_row(mark, *cells)
    console.print(table)
    for check in checks:
        if not check.get("ok"):
            _say(console, f"{check.get('what')}: {check.get('fix')}")


def _say(console: Console, text: str) -> None:
    plain = "".join(c if c.isprintable() else " " for c in text)
    console.print(escape(plain), highlight=False, soft_wrap=True)
