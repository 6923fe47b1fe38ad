"""Puts stand-ins on PATH under the names of the real programs."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent


def install(folder: Path, *names: str) -> Path:
    """`folder`, with programs called `names` that run the stand-ins."""
    folder.mkdir(exist_ok=True)
    for name in names:
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{HERE}/fake_{name}.py" "$@"\n')
        program.chmod(0o755)
    return folder
