"""What happened to an app on this board: one line of JSON an event."""

from __future__ import annotations

import contextlib
import json
from typing import Any, NamedTuple

from edgepack_agent import clock, durable
from edgepack_agent.places import Places

#: Some thousand flashes.
_LONG_BYTES = 4 << 20


class Journal(NamedTuple):
    """Writes the events of one run: of a flash, a recovery, an order."""

    places: Places
    flash_id: str | None
    by: str

    def of(self, flash_id: str) -> Journal:
        """The same, for what concerns a flash that another run began."""
        return self._replace(flash_id=flash_id)

    def add(self, event: str, **fields: Any) -> None:
        """Append an event, synced.

        Raises:
            OSError: it could not be written. What must go on regardless uses `note`.
        """
        line = {"time": clock.as_text(), "boot": clock.boot_id(), "event": event, "by": self.by}
        if self.flash_id is not None:
            line["flash"] = self.flash_id
        line.update(fields)
        durable.append(self.places.journal, json.dumps(line).encode() + b"\n")

    def note(self, event: str, **fields: Any) -> None:
        """Append an event if that is possible: going back must work on a full disk, too."""
        with contextlib.suppress(OSError):
            self.add(event, **fields)

    def shorten(self) -> None:
        """Keep the newer half of a journal that has grown long."""
        with open(self.places.journal, "rb") as file:
            data = file.read()
        if len(data) > _LONG_BYTES:
            middle = data.index(b"\n", len(data) // 2) + 1
            durable.write(self.places.journal, data[middle:])

    def ended(self, outcome: str, release: str | None, **fields: Any) -> None:
        """Note how a flash ended; `release` is what is current now."""
        self.note("ended", outcome=outcome, release=release, **fields)


def last(places: Places) -> dict[str, Any] | None:
    """How the newest flash ended: `flash_id`, `outcome`, `release`, and `state` and `error` if it did not end well."""
    for event in reversed(read(places)):
        if event.get("event") == "ended":
            kept = {k: event.get(k) for k in ("outcome", "release", "state", "error")}
            return dict(kept, flash_id=event.get("flash"))
    return None


def read(places: Places) -> list[dict[str, Any]]:
    """All events, oldest first; a last line that was cut off, and lines that are no JSON, are left out."""
    try:
        with open(places.journal, "rb") as file:
            data = file.read()
    except FileNotFoundError:
        return []
    events = []
    for line in data.split(b"\n")[:-1]:
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if isinstance(event, dict):
                events.append(event)
    return events
