"""How far a build is. Silent unless somebody listens."""

from __future__ import annotations


class Progress:
    """Receives what a build is doing; this one says nothing. The command line passes one that draws."""

    def start(self, lane: str, total: int) -> None:
        """A lane (the shared intake, or a target) has `total` stages ahead of it."""

    def stage(self, lane: str, name: str) -> None:
        """`lane` begins the stage `name`."""

    def finish(self, lane: str, summary: str) -> None:
        """`lane` is done."""
