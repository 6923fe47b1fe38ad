"""Finished bundles."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import edgepack
from tests.models import conv_model, images, write

Bundle = Callable[..., Path]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of bundles. Copy one (`bundle`) before you change it."""
    folder = tmp_path_factory.mktemp("built")
    edgepack.build(
        write(conv_model(), folder / "tiny.onnx"),
        targets=["jetson-orin", "android", "web"],
        output_dir=folder,
        calibration=images(20),
        version="1.2.3",
        release_seq=7,
    )
    return folder


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Bundle:
    """Makes a copy of a target's bundle that a test may change."""

    def copy(target: str = "jetson-orin") -> Path:
        return Path(shutil.copytree(built / f"tiny-{target}", tmp_path / f"tiny-{target}"))

    return copy
