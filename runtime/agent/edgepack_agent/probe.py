"""Does a release answer (placeholder until branch `board` is merged)."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from edgepack_trust import Refusal


def _run(argv: list[str], seconds: float, what: str) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except (OSError, subprocess.SubprocessError) as error:
        raise Refusal("probe", f"{what}: {error}", "look at it") from error
    if done.returncode != 0:
        raise Refusal("probe", f"{what} exits {done.returncode}: {done.stderr!r}", "look at it")


def golden(release: str, engines: str, options: dict[str, Any]) -> dict[str, Any]:
    """The release's own self-test."""
    loader = os.path.join(release, "loader", "edgepack_loader.py")
    python = options["python"] or sys.executable
    argv = [python, "-I", "-S", loader, "self-test", "--cache-dir", engines]
    _run(argv, options["probe_seconds"], "the self-test")
    return {"passed": True}


def probes(options: dict[str, Any]) -> list[dict[str, Any]]:
    """The user's own probe, N times."""
    if options["probe"] is None:
        return []
    for _ in range(options["probes"]):
        _run(options["probe"], options["probe_seconds"], "the probe")
    return [{"passed": True}] * options["probes"]


def restart(options: dict[str, Any]) -> dict[str, Any]:
    """The app's unit restarts."""
    if options["restart"] is not None:
        _run(options["restart"], 60, "the restart")
    return {}
