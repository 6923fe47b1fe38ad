"""Labelled pictures that come with scikit-learn and scikit-image: nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Edge of a picture given to a net, and of the squares a photograph is cut into.
SIZE, _CELL = 32, 64
_SEED = 11
#: Photographs of scikit-image's wheel; each is a class.
_PHOTOGRAPHS = (
    "astronaut", "brick", "camera", "cat", "coffee", "coins", "grass", "gravel", "moon", "retina", "rocket", "motorcycle",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Part:
    """float32 pictures [N, SIZE, SIZE, channels], 0–1, and a class number for each."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Three parts that share no picture."""

    train: Part
    calibration: Part
    evaluation: Part
    classes: int


def digits() -> Pictures:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 enlarged to 32 × 32: 900 to train, 200 to calibrate, 697 to evaluate."""
    from skimage.transform import resize
    from sklearn.datasets import load_digits

    found = load_digits()
    x = np.stack([resize(image / 16.0, (SIZE, SIZE), order=1) for image in found.images])
    order = np.random.default_rng(_SEED).permutation(len(x))
    x, y = x[order].astype(np.float32)[..., np.newaxis], found.target[order].astype(np.int64)
    parts = [Part(x=x[a:b], y=y[a:b]) for a, b in ((0, 900), (900, 1100), (1100, len(x)))]
    return Pictures(train=parts[0], calibration=parts[1], evaluation=parts[2], classes=10)


def photographs() -> Pictures:
    """Which of 12 colour or grey photographs is a piece of 32 × 32 pixels from?

    The photographs are cut into squares of 64 pixels; whole squares go to training, calibration or evaluation, so that no pixel is in two
    parts.
    """
    rng = np.random.default_rng(_SEED)
    pieces: list[list[tuple[NDArray[np.float32], int]]] = [[], [], []]
    for number, name in enumerate(_PHOTOGRAPHS):
        squares = _squares(_photograph(name))
        order = rng.permutation(len(squares))
        half, most = len(order) // 2, len(order) * 7 // 8
        shares = order[:half], order[half:most], order[most:]
        for part, share, count in zip(pieces, shares, (400, 100, 20), strict=True):
            part += [(_piece(squares[i], rng), number) for i in rng.choice(share, count)]
    train, evaluation, calibration = (_part(p, rng) for p in pieces)
    return Pictures(
        train=train, calibration=calibration, evaluation=evaluation, classes=len(_PHOTOGRAPHS)
    )


def faces() -> NDArray[np.float32]:
    """100 photographs of faces (scikit-image's part of LFW) as FER's nets take them: float32 [100, 64, 64, 1], −1 to 1."""
    from skimage.data import lfw_subset
    from skimage.transform import resize

    large = np.stack([resize(face, (64, 64)) for face in lfw_subset()[:100]])
    return (large * 2 - 1).astype(np.float32)[..., np.newaxis]


def _part(pieces: Sequence[tuple[NDArray[np.float32], int]], rng: np.random.Generator) -> Part:
    order = rng.permutation(len(pieces))
    x = np.stack([pieces[i][0] for i in order]).astype(np.float32)
    return Part(x=x, y=np.array([pieces[i][1] for i in order], np.int64))


def _photograph(name: str) -> NDArray[Any]:
    """uint8 [height, width, 3]."""
    from skimage import data, io

    if name == "motorcycle":
        # skimage.data.stereo_motorcycle() reads a third file that not every wheel has.
        image = io.imread(f"{data.__path__[0]}/motorcycle_left.png")
    else:
        image = getattr(data, name)()
    image = image if image.ndim == 3 else np.stack([image] * 3, axis=-1)
    return np.asarray(image[..., :3])


def _squares(image: NDArray[Any]) -> list[NDArray[Any]]:
    high, wide = image.shape[0] // _CELL, image.shape[1] // _CELL
    return [
        image[_CELL * i : _CELL * (i + 1), _CELL * j : _CELL * (j + 1)]
        for i in range(high)
        for j in range(wide)
    ]


def _piece(square: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """Anywhere in the square, mirrored or not, in any light: brightness alone tells nothing."""
    top, left = rng.integers(0, _CELL - SIZE + 1, 2)
    piece = square[top : top + SIZE, left : left + SIZE].astype(np.float32) / 255.0
    piece = piece[:, ::-1] if rng.integers(2) else piece
    return np.clip(piece * rng.uniform(0.6, 1.3) + rng.uniform(-0.1, 0.1), 0.0, 1.0)


SETS: Mapping[str, Callable[[], Pictures]] = {"digits": digits, "photographs": photographs}
