"""Constant matrices of the discrete Fourier transform, in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Up to this length one matrix does the transform: 1.05 MB for 512 real samples. Measured with onnxruntime 1.32, one thread of an
#: x86-64 CPU, 100 real frames; error relative to a frame's norm, against numpy in float64:
#:
#:   n      one matrix                  two factors                 the DFT operator
#:   256     0.09 ms   0.26 MB  1.7e-6   0.15 ms  0.006 MB  4.5e-7    0.45 ms  1.5e-6
#:   400     0.21 ms   0.64 MB  1.4e-6   0.22 ms  0.009 MB  4.7e-7    4.88 ms  1.0e-4
#:   512     0.40 ms   1.05 MB  1.5e-6   0.25 ms  0.011 MB  6.1e-7    1.00 ms  2.0e-6
#:   1024    1.69 ms   4.20 MB  1.2e-6   0.58 ms  0.022 MB  6.8e-7    2.22 ms  2.2e-6
#:   2048    5.67 ms  16.79 MB  1.1e-6   1.39 ms  0.042 MB  7.9e-7    4.62 ms  2.3e-6
#:   4096   24.49 ms  67.14 MB  1.1e-6   3.25 ms  0.083 MB  1.2e-6    9.78 ms  2.6e-6
#:   16000                              31.36 ms  0.320 MB  1.5e-6  308.84 ms  5.6e-3
#:
#: The DFT operator is slower than two factors at every length, too far off at all that are no powers of two, and unknown to
#: TensorRT, CoreML, XNNPACK and WebGPU, so it is not used.
MATRIX_UP_TO = 512
#: A prime, or a prime factor, may still be one matrix up to here: 16.8 MB for 2048 real samples.
FACTOR_UP_TO = 2048


def roots(
    rows: int, columns: int, length: int, sign: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Real and imaginary part of exp(sign·2πi·r·c / length), float64 [rows, columns].

    Quarter turns are exact: a zero bin's imaginary part must be 0, or its angle is noise.
    """
    turns = (np.outer(np.arange(rows), np.arange(columns)) % length) / length
    cos, sin = np.cos(2 * np.pi * turns), sign * np.sin(2 * np.pi * turns)
    return np.where(np.abs(cos) < 1e-12, 0.0, cos), np.where(np.abs(sin) < 1e-12, 0.0, sin)


def hermitian_weights(bins: int, length: int) -> NDArray[np.float64]:
    """How often each of the first `bins` bins stands in the whole spectrum of a real signal, float64 [bins].

    Once: zero frequency, and half the sampling rate where `length` is even. Twice: every other (itself and its conjugate).
    """
    weights = np.full(bins, 2.0)
    weights[0] = 1.0
    if length % 2 == 0:
        weights[length // 2 :] = 1.0
    return weights


def factors(length: int) -> tuple[int, int] | None:
    """(1, length) where one matrix does the transform; otherwise the two factors nearest each other; None if both ways are too big."""
    if length <= MATRIX_UP_TO:
        return 1, length
    if length > FACTOR_UP_TO**2:
        return None
    small = max(d for d in range(1, int(length**0.5) + 1) if length % d == 0)
    return (small, length // small) if length // small <= FACTOR_UP_TO else None


def next_length(length: int) -> int | None:
    """The first length from `length` on that `factors` has an answer for; None if there is none."""
    return next((n for n in range(length, FACTOR_UP_TO**2 + 1) if factors(n)), None)
