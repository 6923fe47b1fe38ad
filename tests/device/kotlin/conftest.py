"""One JVM for all the tests, and bundles to break."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.device.kotlin.bundles import Bundle, Copy
from tests.device.kotlin.jvm import Jvm


@pytest.fixture(scope="session")
def jvm() -> Iterator[Jvm]:
    with Jvm() as jvm:
        yield jvm


@pytest.fixture
def copy(samples: Path, tmp_path: Path) -> Copy:
    return lambda name: Bundle(Path(shutil.copytree(samples / name, tmp_path / name)))
