"""How far a fleet is. Silent unless somebody listens."""

from __future__ import annotations

from edgepack.flash.report import BoardResult


class FlashProgress:
    """Receives what happens to boards; this one says nothing. The command line passes one that draws."""

    def fleet(self, names: list[str]) -> None:
        """These boards are to be flashed."""

    def state(self, board: str, state: str, detail: str = "") -> None:
        """A board enters a state: the agent's, or CONNECT, AGENT, RECONNECT."""

    def upload(self, board: str, done: int, total: int) -> None:
        """A board has `done` of `total` bytes of what it lacked."""

    def finish(self, result: BoardResult) -> None:
        """A board's outcome is known."""
