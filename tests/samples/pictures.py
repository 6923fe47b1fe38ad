"""Real photographs and small drawn ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
from PIL import Image

from edgepack.artifact import TensorSpec

PHOTO = TensorSpec(name="image", dtype="float32", shape=("batch", 224, 224, 3))
BYTES = TensorSpec(name="image", dtype="uint8", shape=("batch", 5, 6, 3))


def photographs() -> list[Path]:
    """china.jpg and flower.jpg of scikit-learn's wheel, 640×427 pixels."""
    spec = importlib.util.find_spec("sklearn")
    assert spec is not None
    assert spec.origin is not None
    return sorted((Path(spec.origin).parent / "datasets" / "images").glob("*.jpg"))


def pixels(height: int = 5, width: int = 6, *, seed: int = 0) -> np.ndarray:
    """uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def draw(path: Path, x: np.ndarray | None = None) -> Path:
    """The path, with an image of these pixels there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels() if x is None else x).save(path)
    return path
