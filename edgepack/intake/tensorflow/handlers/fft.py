"""Fourier transforms with constant matrices and MatMul, which every runtime has.

A transform of length p·q is taken as transforms of length p and q with a multiplication between them, once one matrix is too big
(the "four-step" or Bailey form of Cooley and Tukey's algorithm; Bailey, "FFTs in External or Hierarchical Memory", 1990).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import onnx

from edgepack.errors import ModelError
from edgepack.intake.tensorflow.handlers.complex_arithmetic import product
from edgepack.intake.tensorflow.handlers.dft import (
    factors,
    hermitian_weights,
    next_length,
    roots,
)
from edgepack.intake.tensorflow.handlers.pairs import Pair, Writer

#: TensorFlow's operators: how many of the last axes they transform. (FFTND and its kin have no CPU kernel in TensorFlow 2.21, so no
#: model with them answers on the machines that convert.)
TRANSFORMS = {
    f"{kind}{suffix}": axes
    for kind in ("FFT", "IFFT", "RFFT", "IRFFT")
    for suffix, axes in (("", 1), ("2D", 2), ("3D", 3))
}


def transform(write: Writer, x: Pair) -> Pair:
    """What the writer's node, one of `TRANSFORMS`, makes of `x`; a real signal has no imaginary part.

    Along each axis the signal is cut, or filled up with zeros at the end, to the length that is transformed.

    Source: TensorFlow 2.21, tf.signal.rfft, irfft, fft2d: the real transform is along the last of the axes, forward first, inverse last;
        irfft takes fft_length // 2 + 1 bins; inverse transforms divide by the length.
    Raises:
        ModelError: a length is not constant, or has a prime factor too big for a matrix.
    """
    kind = write.node.type
    axes, lengths = _axes(write, x)
    *others, last = zip(axes, lengths, strict=True)
    if kind.startswith("RFFT"):
        x = _along(write, x, last[0], partial(_forward, length=last[1], bins=last[1] // 2 + 1))
    step = _inverse if kind.startswith("I") else _forward
    for axis, length in others if "RFFT" in kind else [*others, last]:
        if (length, write.shape(x.real)[axis]) != (1, 1):  # TFLite's one-dimensional transform
            x = _along(write, x, axis, partial(step, length=length))
    if kind.startswith("IRFFT"):
        x = _along(write, x, last[0], partial(_inverse_real, length=last[1]))
    return x


def _axes(write: Writer, x: Pair) -> tuple[list[int], list[int]]:
    """The axes that are transformed, none negative, and their lengths."""
    shape = write.shape(x.real)
    axes = list(range(len(shape) - TRANSFORMS[write.node.type], len(shape)))
    if len(write.node.input) > 1:
        return axes, write.constant_input(1, "fft_length")
    lengths = [shape[a] for a in axes]
    if min(lengths) < 1:
        raise ModelError(
            f"{write.node.name} ({write.node.type}): the length of the transform is a free size, in {shape}",
            "fix that size with --shape",
        )
    return axes, lengths


def _along(write: Writer, x: Pair, axis: int, step: Callable[[Writer, Pair], Pair]) -> Pair:
    """`step`, which works along the last axis, done along another."""
    rank = len(write.shape(x.real))
    if axis == rank - 1:
        return step(write, x)
    order = [*range(axis), rank - 1, *range(axis + 1, rank - 1), axis]
    turned = step(write, _each(write, x, "Transpose", perm=order))
    return _each(write, turned, "Transpose", perm=order)


def _each(write: Writer, x: Pair, kind: str, *inputs: str, **attributes: Any) -> Pair:
    """One ONNX operator on both parts."""
    real, imag = (
        write.onnx(kind, [part, *inputs], **attributes) if part else None
        for part in (x.real, x.imag)
    )
    assert real is not None
    return Pair(real=real, imag=imag)


def _matmul(write: Writer, a: Pair, b: Pair) -> Pair:
    return product(write, a, b, lambda x, y: write.onnx("MatMul", [x, y]))


def _cut(write: Writer, x: Pair, size: int) -> Pair:
    """The first `size` along the last axis."""
    ends = [np.array([i], np.int64) for i in (0, size, len(write.shape(x.real)) - 1)]
    return _each(write, x, "Slice", *[write.const(e) for e in ends])


def _fit(write: Writer, x: Pair, size: int) -> Pair:
    """Cut, or filled up with zeros, to `size` along the last axis."""
    shape = write.shape(x.real)
    now = shape[-1]
    if now == size:
        return x
    if now < size:  # A free size is filled up by `size` and then cut.
        filled = size - now if now >= 0 else size
        pads = write.const(np.array([0] * (2 * len(shape) - 1) + [filled], np.int64))
        x = _each(write, x, "Pad", pads)
    return x if 0 <= now < size else _cut(write, x, size)


def _forward(write: Writer, x: Pair, length: int, bins: int | None = None) -> Pair:
    """The first `bins` bins of the transform along the last axis, or all."""
    return _sum_of_turns(write, _fit(write, x, length), length, bins or length, sign=-1)


def _inverse(write: Writer, x: Pair, length: int) -> Pair:
    return _sum_of_turns(write, _fit(write, x, length), length, length, sign=1, scale=1 / length)


def _inverse_real(write: Writer, x: Pair, length: int) -> Pair:
    """The real signal whose spectrum begins with `x`: the bins beyond are conjugates, so they double the real part."""
    bins = length // 2 + 1
    x = _fit(write, x, bins)
    weights = hermitian_weights(bins, length)
    if _two_factors(write, length)[0] == 1:
        cos, sin = (m * weights[:, None] / length for m in roots(bins, length, length, 1))
        return Pair(real=_matmul(write, x, write.const_pair(cos, sin, x.real)).real)
    x = _each(write, x, "Mul", write.const(weights, x.real))
    return Pair(real=_inverse(write, x, length).real)


def _sum_of_turns(
    write: Writer, x: Pair, length: int, bins: int, sign: int, scale: float = 1.0
) -> Pair:
    """Σ_t x[…, t]·exp(sign·2πi·t·k/length)·scale for k < bins, along the last axis."""
    p, q = _two_factors(write, length)
    if length == 1:
        return x
    if p == 1:
        cos, sin = roots(length, bins, length, sign)
        return _matmul(write, x, write.const_pair(cos * scale, sin * scale, x.real))
    like, lead = x.real, write.shape(x.real)[:-1]
    # t = q·a + b and k = c + p·d: sum over a, turn by b·c, sum over b.
    x = _with_last(write, x, like, [*lead, p, q], len(lead))
    x = _matmul(write, write.const_pair(*roots(p, p, p, sign), like), x)
    turn = write.const_pair(*roots(p, q, length, sign), like)
    x = product(write, x, turn, lambda a, b: write.onnx("Mul", [a, b]))
    columns = -(-bins // p)
    cos, sin = roots(q, columns, q, sign)
    x = _matmul(write, x, write.const_pair(cos * scale, sin * scale, like))
    x = _each(write, x, "Transpose", perm=[*range(len(lead)), len(lead) + 1, len(lead)])
    x = _with_last(write, x, like, [*lead, columns * p], len(lead))
    return x if columns * p == bins else _cut(write, x, bins)


def _with_last(write: Writer, x: Pair, like: str, shape: list[int], lead: int) -> Pair:
    """`x` in another shape, whose first `lead` sizes are those of the tensor `like`.

    Without zeros, ONNX's word for "as it was": tf2onnx 1.17's optimizer drops the first of two Reshapes, and then it was not.
    """
    if shape.count(-1) <= 1:
        sizes = write.const(np.array(shape, np.int64))
    else:
        dims = write.onnx("Shape", [like], dtype=onnx.TensorProto.INT64)
        ends = [write.const(np.array([i], np.int64)) for i in (0, lead)]
        first = write.onnx("Slice", [dims, *ends])
        sizes = write.onnx("Concat", [first, write.const(np.array(shape[lead:], np.int64))], axis=0)
    real, imag = (
        write.onnx("Reshape", [part, sizes], shape=shape) if part else None
        for part in (x.real, x.imag)
    )
    assert real is not None
    return Pair(real=real, imag=imag)


def _two_factors(write: Writer, length: int) -> tuple[int, int]:
    found = factors(length)
    if found is None:
        longer = next_length(length)
        raise ModelError(
            f"{write.node.name} ({write.node.type}): a transform of length {length} is too long, or has too big a prime factor",
            f"fill the signal up with zeros to the length {longer}"
            if longer
            else "transform the signal before the model, or in shorter frames",
        )
    return found
