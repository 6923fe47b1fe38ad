"""How boards are flashed: what is asked of them all."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from edgepack.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class FlashOptions:
    """What the agent is told, and how the host goes about it.

    Attributes:
        restart, probe: programs with arguments, run on the board without a shell; None: none.
        python: the interpreter on the board that has numpy and onnxruntime; None: python3.
        engine: who builds TensorRT's engine there: `auto`, `trtexec`, `onnxruntime`, `none`.
        engine_seconds: how long that may take.
        trial_seconds: how long the board waits for the host's word before it goes back.
        unattended: the board's probes decide alone.
        dry_run: preflight only.
        patience_s: how long a broken link is tried again.
    """

    restart: tuple[str, ...] | None = None
    probe: tuple[str, ...] | None = None
    python: str | None = None
    engine: str = "auto"
    engine_seconds: int = 1800
    trial_seconds: int = 120
    unattended: bool = False
    allow_unsigned: bool = False
    dry_run: bool = False
    patience_s: float = 120.0

    def as_message(self) -> dict[str, Any]:
        """The `options` of `begin`; those that are not given are the agent's to choose."""
        given: dict[str, Any] = {
            "allow_unsigned": self.allow_unsigned,
            "unattended": self.unattended,
            "trial_seconds": self.trial_seconds,
            "engine": self.engine,
            "engine_seconds": self.engine_seconds,
        }
        if self.python is not None:
            given["python"] = self.python
        if self.restart is not None:
            given["restart"] = list(self.restart)
        if self.probe is not None:
            given["probe"] = list(self.probe)
        return given


#: Who may build an engine on the board.
ENGINES = ("auto", "trtexec", "onnxruntime", "none")


def as_engine(name: str) -> str:
    """The name, if it is one of ENGINES.

    Raises:
        UsageError: it is not.
    """
    if name not in ENGINES:
        raise UsageError(f"--engine {name!r} is not known", f"choose from {', '.join(ENGINES)}")
    return name


def as_argv(option: str, line: str | None) -> tuple[str, ...] | None:
    """A command line as a list of arguments; quotes group, nothing else has a meaning.

    Raises:
        UsageError: a quote that does not end, or nothing at all.
    """
    if line is None:
        return None
    try:
        argv = tuple(shlex.split(line))
    except ValueError as error:
        raise UsageError(f"{option} {line!r}: {error}", "close the quote") from error
    if not argv or "\0" in line:
        raise UsageError(f"{option} {line!r} is no command", "give a program and its arguments")
    return argv
