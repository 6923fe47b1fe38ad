"""Where `targets/` and `runtime/` lie: beside the package in a checkout, inside it in an installed wheel."""

from __future__ import annotations

import importlib.util
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import ModuleType

_PACKAGE = Path(__file__).resolve().parent
_DATA = _PACKAGE / "_data"
_ROOT = _DATA if _DATA.is_dir() else _PACKAGE.parent

TARGETS = _ROOT / "targets"
RUNTIME = _ROOT / "runtime"
QUICKSTART = _PACKAGE / "quickstart"


def load_shipped(path: Path) -> ModuleType:
    """A Python file that is shipped as it is and stands alone, as a module under its own name; run anew at each call."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@lru_cache(maxsize=1)
def python_loader() -> ModuleType:
    """The loader that Python bundles ship, as a module."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return load_shipped(RUNTIME / "python" / "edgepack_loader.py")
