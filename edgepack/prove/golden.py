"""Golden inputs: the same few feeds are given to the source framework, to every stage, and to the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.samples.dataset import Samples

#: Golden feeds in a bundle.
CASES = 3
#: What a free dimension is proved with when nobody gave a size: large enough for a few strided convolutions.
FREE_SIZE = 64
_SEED = 20_240_229


def golden_feeds(
    specs: Sequence[TensorSpec], calibration: Samples | None
) -> list[dict[str, NDArray[Any]]]:
    """Feeds for a model's inputs: evenly spaced calibration samples, else seeded noise.

    A free dimension gets one size by name, FREE_SIZE. Noise: floats uniform in [0, 1); integers 0 or 1, which are legal indexes into any vocabulary of two; bool either.
    """
    if calibration is not None:
        return list(calibration.spread_feeds(specs, CASES))
    rng = np.random.default_rng(_SEED)
    return [{s.name: _noise(s, rng) for s in specs} for _ in range(CASES)]


def _noise(spec: TensorSpec, rng: np.random.Generator) -> NDArray[Any]:
    shape = tuple(d if isinstance(d, int) else FREE_SIZE for d in spec.shape)
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.asarray(rng.random(shape)).astype(dtype)
    return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
