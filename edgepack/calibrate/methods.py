"""From what was seen of a tensor to the range its integers cover."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.calibrate.histogram import BINS
from edgepack.calibrate.observation import Observation, Values

MethodName = Literal["minmax", "moving_average", "percentile", "entropy", "mse"]
#: (low, high) of a tensor, low ≤ 0 ≤ high not required: the quantizer includes zero itself.
Range = tuple[float, float]

#: Magnitudes that an int8 tensor has, and how finely thresholds are tried, in bins.
_LEVELS, _STRIDE = 128, 8
#: Steps that an 8-bit tensor has between its least and its largest integer.
_STEPS = 255


@dataclass(frozen=True, kw_only=True)
class Method:
    """How ranges are chosen.

    Attributes:
        name: minmax: all that was seen; moving_average: of each feed's extremes; percentile: all but the outermost values;
            entropy: the threshold whose integers tell most about the values; mse: the range with the least squared error of rounding
            and clipping.
        percentile: share of the values, in percent, that the range covers.
        symmetric: the integers will reach as far on both sides of zero, which `mse` has to know.
    """

    name: MethodName = "minmax"
    percentile: float = 99.999
    symmetric: bool = False

    def ranges(self, observation: Observation) -> dict[str, Range]:
        """A range for each tensor of which anything was seen."""
        return {
            name: self._range(values) for name, values in observation.values.items() if values.feeds
        }

    def _range(self, values: Values) -> Range:
        if self.name == "moving_average":
            return values.average_low, values.average_high
        if self.name == "minmax" or values.lowest == values.highest:
            return values.lowest, values.highest
        if self.name == "percentile":
            low, high = _quantiles(values, self.percentile)
        elif self.name == "mse":
            low, high = _least_error(values, symmetric=self.symmetric)
        else:
            high = entropy_threshold(values.histogram.magnitudes()) * values.histogram.width
            low = -high
        return max(low, values.lowest), min(high, values.highest)


def _quantiles(values: Values, percentile: float) -> Range:
    """The bins' edges between which `percentile` of the values lie, the rest in equal parts on both sides."""
    counts, width = values.histogram.counts, values.histogram.width
    cut = (100.0 - percentile) / 200.0 * counts.sum()
    below = np.cumsum(counts)
    low = int(np.searchsorted(below, cut, side="right"))
    high = int(np.searchsorted(below, below[-1] - cut, side="left"))
    return (low - BINS) * width, (high - BINS + 1) * width


def _least_error(values: Values, *, symmetric: bool) -> Range:
    """The range, of those that end at every eighth bin, with the least sum of squared errors.

    What lies inside is off by an even share of a step, Δ²/12; what lies outside by its distance from the range. Exact zeros (ReLU,
    padding) have an exact integer whatever the range.

    Source: Nagel et al., "A White Paper on Neural Network Quantization" (2021), 3.1, MSE-based range setting.
    """
    histogram = values.histogram
    counts = histogram.counts.astype(np.float64)
    negative, positive = counts[:BINS][::-1], counts[BINS:]
    rounded = counts.sum() - negative[0] - positive[0]
    ends = np.arange(0, BINS + 1, _STRIDE)
    below, above = (_clipping(side)[ends] for side in (negative, positive))
    if symmetric:
        total = below + above + rounded * (2 * ends / _STEPS) ** 2 / 12
        best = int(ends[int(np.argmin(total))])
        return -best * histogram.width, best * histogram.width
    step = (ends[:, np.newaxis] + ends) / _STEPS
    total = below[:, np.newaxis] + above + rounded * step**2 / 12
    low, high = np.unravel_index(int(np.argmin(total)), total.shape)
    return -float(ends[low]) * histogram.width, float(ends[high]) * histogram.width


def _clipping(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """[BINS + 1]: the sum of squared distances, in bins, of all values beyond the end of the first n bins, each in its bin's middle."""
    middle = np.arange(BINS) + 0.5
    # Σ c·(m − n)² over m > n, from the sums of c, c·m and c·m² over what lies beyond.
    beyond = [np.append(np.cumsum((counts * middle**p)[::-1])[::-1], 0.0) for p in range(3)]
    ends = np.arange(BINS + 1)
    errors: NDArray[np.float64] = beyond[2] - 2 * ends * beyond[1] + ends**2 * beyond[0]
    return errors


def entropy_threshold(magnitudes: NDArray[np.int64]) -> int:
    """How many of the bins of magnitudes to cover: those whose quantized distribution diverges least from the real one.

    Source: NVIDIA, "8-bit Inference with TensorRT" (GTC 2017), entropy calibration: the Kullback-Leibler divergence between the
    clipped distribution, outliers in its last bin, and its quantization to 128 levels.
    """
    used = int(np.max(np.nonzero(magnitudes)[0], initial=0)) + 1
    if used <= _LEVELS:
        return used
    # Exact zeros (ReLU, padding) have an exact integer whatever the range: they say nothing of it.
    counts = magnitudes.astype(np.float64)
    counts[0] = min(counts[0], counts[1:].mean() if used > 1 else counts[0])
    ends = np.unique([*range(_LEVELS, used, _STRIDE), used])
    return int(min(ends, key=lambda end: _divergence(counts, int(end))))


def _divergence(counts: NDArray[np.float64], end: int) -> float:
    inside = counts[:end]
    real = inside.copy()
    real[-1] += counts[end:].sum()
    starts = np.arange(_LEVELS) * end // _LEVELS
    sums = np.add.reduceat(inside, starts)
    present = real > 0
    holders = np.add.reduceat(present.astype(np.float64), starts)
    level = np.repeat(np.arange(_LEVELS), np.diff([*starts, end]))
    shared = np.divide(sums, holders, out=np.zeros(_LEVELS), where=holders > 0)
    quantized = np.where(present, shared[level], 0.0)
    total, quantized_total = real.sum(), quantized.sum()
    if quantized_total == 0.0:
        return float("inf")
    p, q = real[present] / total, quantized[present] / quantized_total
    # A level without a value in it that outliers were moved to: as unlikely as may be, not impossible.
    return float(np.sum(p * np.log(p / np.maximum(q, 1e-10))))


def describe(method: Method) -> Mapping[str, object]:
    """The method for a manifest."""
    data: dict[str, object] = {"method": method.name}
    if method.name == "percentile":
        data["percentile"] = method.percentile
    return data
