"""What became of each board: the fleet report, as data, whole on disk or not there, and read again to go on."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pydantic
from typing_extensions import TypedDict

from edgepack.errors import FlashError
from edgepack.trust.signature import write_whole

SCHEMA = 1
#: Outcomes that boards say (runtime/agent/README.md), and after them those that only a host can say.
OUTCOMES = {
    "committed": "the new release is proven and runs",
    "unchanged": "it ran this release already",
    "refused": "nothing was written",
    "failed": "nothing was switched; the old release runs",
    "rolled-back": "it was switched, and back; the old release runs",
    "stuck": "neither release verifies: a person is needed",
    "ready": "a dry run: it would take the release",
    "unreachable": "no way in, or no longer; nothing was switched",
    "unknown": "the link broke after all was sent: the board decides alone",
    "interrupted": "you ended it",
    "not-started": "the wave was stopped before its turn",
}
#: The board runs the release.
ON_RELEASE = ("committed", "unchanged")


@dataclass(frozen=True, kw_only=True)
class BoardResult:
    """What became of one board.

    Attributes:
        outcome: a word of OUTCOMES.
        state: the agent's state in which it ended; empty if no agent began.
        error: {kind, cause, fix}; None where it is on the release.
        sent_bytes: of the bundle's files, as often as they crossed the link; 0 for an unchanged bundle.
        links: how many connections it took.
        report: what the board measured.
    """

    name: str
    address: str
    outcome: str
    wave: int = 0
    release: str | None = None
    state: str = ""
    error: dict[str, str] | None = None
    sent_bytes: int = 0
    seconds: float = 0.0
    links: int = 0
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def on_release(self) -> bool:
        """Whether the board runs what was flashed."""
        return self.outcome in ON_RELEASE


@dataclass(frozen=True, kw_only=True)
class FleetReport:
    """What became of a fleet.

    Attributes:
        bundle: {app, version, seq, target, digest, release} of what was flashed; `digest` is the SHA-256 of its manifest.
        stopped: why no more boards were begun; empty if all had their turn.
    """

    bundle: dict[str, Any]
    boards: tuple[BoardResult, ...]
    dry_run: bool = False
    stopped: str = ""

    @property
    def passed(self) -> bool:
        """Whether every board is on the release, or, in a dry run, would take it."""
        good = ("ready", *ON_RELEASE) if self.dry_run else ON_RELEASE
        return all(b.outcome in good for b in self.boards)

    def as_json(self) -> dict[str, Any]:
        """Plain data; what `--resume` reads."""
        return {"schema": SCHEMA, "passed": self.passed, **asdict(self)}

    def write(self, place: Path) -> None:
        """Write it whole, over an older one.

        Raises:
            OutputError: it cannot be written.
        """
        write_whole(
            place, json.dumps(self.as_json(), indent=2, ensure_ascii=False).encode() + b"\n"
        )


def read_report(place: Path) -> FleetReport:
    """A report that `write` wrote.

    Raises:
        FlashError (kind `report`): it is missing, or no report.
    """
    fix = "give a file that --report or --json wrote"
    try:
        text = place.read_bytes()
        schema = _SCHEMA_OF.validate_json(text)["schema"]
        if schema > SCHEMA:
            raise FlashError(
                f"{place}: schema {schema}; this edgepack knows up to {SCHEMA}",
                "upgrade edgepack",
                kind="report",
            )
        return _REPORT.validate_json(text)
    except OSError as error:
        raise FlashError(f"{place}: {error.strerror}", fix, kind="report") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise FlashError(
            f"{place} is no fleet report: {where}: {first['msg']}", fix, kind="report"
        ) from error


class _Schema(TypedDict):
    schema: int


_SCHEMA_OF = pydantic.TypeAdapter(_Schema)
_REPORT = pydantic.TypeAdapter(FleetReport)
