"""Where `targets/` and `runtime/` lie: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_DATA = _PACKAGE / "_data"
_ROOT = _DATA if _DATA.is_dir() else _PACKAGE.parent

TARGETS = _ROOT / "targets"
RUNTIME = _ROOT / "runtime"
QUICKSTART = _PACKAGE / "quickstart"
