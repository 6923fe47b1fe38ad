"""How far apart two tensors are, over any number of feeds."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Numbers compared at a time: few enough to stay in a core's cache.
_BLOCK = 1 << 15


@dataclass(frozen=True, kw_only=True)
class Distance:
    """B against A.

    Attributes:
        sqnr_db: 10·log10(Σa² / Σ(a−b)²), the signal-to-quantization-noise ratio in decibels; infinite where nothing differs, −infinite where
            one is not finite and the other is not the same.
        max_abs: max |a−b|, in the tensor's unit.
        max_rel: max |a−b| / max |a|.
        cosine: similarity of the flattened tensors, −1 to 1.
        correlation: the same of their deviations from their means.

    Source: for SQNR, onnxruntime/quantization/qdq_loss_debug.py, which gives 20·log10 of the norms' ratio: the same number.
    """

    sqnr_db: float
    max_abs: float
    max_rel: float
    cosine: float
    correlation: float


class Meter:
    """Sums over feeds, in float64."""

    def __init__(self) -> None:
        self._sums = np.zeros(6)  # a², b², a·b, (a−b)², a, b
        self._count = 0
        self._max_abs = self._max = 0.0
        self._broken = False

    def add(self, a: NDArray[np.generic], b: NDArray[np.generic]) -> None:
        """One feed's tensors, of equal size."""
        x, y = a.reshape(-1), b.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            for i in range(0, x.size, _BLOCK):
                self._block(_float(x[i : i + _BLOCK]), _float(y[i : i + _BLOCK]))

    def _block(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        difference = x - y
        sums = (x @ x, y @ y, x @ y, difference @ difference, x.sum(), y.sum())
        if not np.isfinite(sums).all():
            finite = np.isfinite(x) & np.isfinite(y)
            same = (x == y) | (np.isnan(x) & np.isnan(y))
            self._broken = self._broken or not bool((same | finite).all())
            if not finite.all():
                self._block(x[finite], y[finite])
                return
        self._sums += sums
        self._count += x.size
        if x.size:
            low, high = float(difference.min()), float(difference.max())
            self._max_abs = max(self._max_abs, -low, high)
            self._max = max(self._max, float(x.max()), -float(x.min()))

    def distance(self) -> Distance:
        """Over all that was added."""
        aa, bb, ab, noise, a, b = map(float, self._sums)
        count = max(self._count, 1)
        deviation_a, deviation_b = aa - a * a / count, bb - b * b / count
        sqnr = decibels(aa, noise)
        max_abs = self._max_abs
        if self._broken:
            sqnr, max_abs = -math.inf, math.inf
        return Distance(
            sqnr_db=sqnr,
            max_abs=max_abs,
            max_rel=_ratio(max_abs, self._max),
            cosine=_cosine(ab, aa, bb),
            correlation=_cosine(ab - a * b / count, deviation_a, deviation_b),
        )


def decibels(signal: float, noise: float) -> float:
    """10·log10(signal / noise); infinite without noise, −infinite where there is nothing but noise."""
    if noise == 0.0:
        return math.inf
    if signal == 0.0 or not math.isfinite(noise):
        return -math.inf
    return 10.0 * (math.log10(signal) - math.log10(noise))


def _ratio(a: float, b: float) -> float:
    if a == 0.0:
        return 0.0
    return a / b if b else math.inf


def _cosine(product: float, a: float, b: float) -> float:
    """Of two energies and their product; 1 where both are nothing, 0 where one is (rounding counts as nothing)."""
    if a <= 0.0 or b <= 0.0:
        return 1.0 if a <= 0.0 and b <= 0.0 else 0.0
    return max(-1.0, min(1.0, product / math.sqrt(a) / math.sqrt(b)))


def _float(x: NDArray[np.generic]) -> NDArray[np.float64]:
    return np.asarray(x).astype(np.float64)
