"""A real model, really built: FER's mini-XCEPTION (7 emotions, Keras 2 HDF5) with real faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepack
from tests.conftest import CACHE, need

TARGETS = ("jetson-orin", "android", "ios", "web")


@pytest.fixture(scope="session")
def emotion_model() -> Path:
    return need(CACHE / "models" / "emotion_model.hdf5", "models.sh")


@pytest.fixture(scope="session")
def faces() -> np.ndarray:
    """100 real faces in FER's preprocessing: float32 [100, 64, 64, 1], −1 to 1."""
    from skimage.data import lfw_subset
    from skimage.transform import resize

    small = lfw_subset()[:100]
    large = np.stack([resize(face, (64, 64)) for face in small])
    return (large * 2 - 1).astype(np.float32)[..., np.newaxis]


@pytest.fixture(scope="session")
def fer_builds(
    emotion_model: Path, faces: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, Any]]:
    """`fer_builds(precision)`: target → BuildResult of all four, built once per precision."""
    made: dict[str, dict[str, Any]] = {}

    def build(precision: str) -> dict[str, Any]:
        if precision not in made:
            results = edgepack.build(
                emotion_model,
                targets=TARGETS,
                output_dir=tmp_path_factory.mktemp(f"fer-{precision}"),
                precision=precision,
                calibration=faces,
            )
            made[precision] = {r.target: r for r in results}
        return made[precision]

    return build
