"""What was seen of each tensor while the model ran on the calibration data.

Law: `Observation.from_bytes(o.to_bytes())` says the same as `o`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.calibrate.histogram import BINS, Histogram

#: Weight of each new feed in a moving average. Source: onnxruntime.quantization, CalibMovingAverageConstant.
_SMOOTHING = 0.01


@dataclass(kw_only=True)
class Values:
    """One tensor's values over all feeds.

    Attributes:
        lowest, highest: the least and the largest value.
        average_low, average_high: moving averages of each feed's least and largest value.
    """

    lowest: float = float("inf")
    highest: float = float("-inf")
    average_low: float = 0.0
    average_high: float = 0.0
    feeds: int = 0
    histogram: Histogram = field(default_factory=Histogram)

    def add(self, values: NDArray[Any]) -> None:
        """Take in the tensor's values in one feed; values that are not finite are left out, an empty tensor is none."""
        is_finite = np.isfinite(values)
        finite = values if is_finite.all() else values[is_finite]
        if not finite.size:
            return
        low, high = float(finite.min()), float(finite.max())
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        if self.feeds == 0:
            self.average_low, self.average_high = low, high
        else:
            self.average_low += _SMOOTHING * (low - self.average_low)
            self.average_high += _SMOOTHING * (high - self.average_high)
        self.feeds += 1
        self.histogram.add(finite)


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Values by tensor, and over how many samples they were seen."""

    values: Mapping[str, Values]
    samples: int

    def to_bytes(self) -> bytes:
        """As a .npz file of plain arrays."""
        seen = list(self.values.values())
        numbers = [(v.lowest, v.highest, v.average_low, v.average_high) for v in seen]
        exponents = [0 if v.histogram.exponent is None else v.histogram.exponent for v in seen]
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            names=np.array(list(self.values), dtype=np.str_),
            numbers=np.array(numbers, np.float64).reshape(len(seen), 4),
            feeds=np.array([v.feeds for v in seen], np.int64),
            exponents=np.array(exponents, np.int64),
            counts=np.array([v.histogram.counts for v in seen], np.int64).reshape(-1, 2 * BINS),
            samples=np.array(self.samples),
        )
        return buffer.getvalue()

    @staticmethod
    def from_bytes(data: bytes) -> Observation:
        """The observation that `to_bytes` wrote."""
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            rows = zip(
                file["names"],
                file["numbers"],
                file["feeds"],
                file["exponents"],
                file["counts"],
                strict=True,
            )
            values = {str(name): _values(*row) for name, *row in rows}
            return Observation(values=values, samples=int(file["samples"]))


def _values(
    numbers: NDArray[np.float64], feeds: np.int64, exponent: np.int64, counts: NDArray[np.int64]
) -> Values:
    low, high, average_low, average_high = map(float, numbers)
    return Values(
        lowest=low,
        highest=high,
        average_low=average_low,
        average_high=average_high,
        feeds=int(feeds),
        histogram=Histogram(exponent=int(exponent) if counts.any() else None, counts=counts),
    )
