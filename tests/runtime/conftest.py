"""The Python loader as a module, sample bundles that may be broken, and a way to break them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.bundle_samples import seal
from tests.conftest import ROOT

LOADER = ROOT / "runtime" / "python" / "edgepack_loader.py"
FAKE_ORIN = Path(__file__).parent / "fake_orin"

Copy = Callable[[str], Path]


@pytest.fixture(scope="session")
def loader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("edgepack_loader_under_test", LOADER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def copy(samples: Path, tmp_path: Path) -> Copy:
    """A sample bundle by name, in a folder of its own."""
    return lambda name: shutil.copytree(samples / name, tmp_path / name)


def manifest_of(bundle: Path) -> dict[str, Any]:
    return json.loads((bundle / "manifest.json").read_bytes())


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest of `bundle` in place."""
    manifest = manifest_of(bundle)
    change(manifest)
    seal(bundle, manifest)


def with_providers(bundle: Path, *names: str, **options: str) -> None:
    """Give `bundle` these providers, the first of them with `options`."""

    def change(manifest: dict[str, Any]) -> None:
        providers = [{"name": name, "options": {}} for name in names]
        providers[0]["options"] = options
        manifest["runtime"]["providers"] = providers

    edit(bundle, change)


def replace(bundle: Path, path: str, data: bytes) -> None:
    """Put `data` at `path` and make the manifest agree."""
    (bundle / path).write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()

    def change(manifest: dict[str, Any]) -> None:
        file = next(f for f in manifest["files"] if f["path"] == path)
        file.update(size=len(data), sha256=digest)

    edit(bundle, change)


def feeds_of(bundle: Path, case: int = 0) -> dict[str, np.ndarray]:
    """The golden inputs, read without the loader."""
    inputs = manifest_of(bundle)["golden"][case]["inputs"]
    return {
        g["name"]: np.fromfile(bundle / g["path"], g["dtype"]).reshape(g["shape"]) for g in inputs
    }
