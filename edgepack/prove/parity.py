"""How far are two models' answers apart, and is that allowed?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ParityError
from edgepack.prove.engine import Tensors
from edgepack.targets import Tolerance


@dataclass(frozen=True, kw_only=True)
class Parity:
    """One output after one stage against the source framework, worst over all golden cases.

    Attributes:
        max_abs: L∞ distance; infinite where one side is not finite or the shapes differ.
        mse: mean squared error.
        cosine: similarity of the flattened outputs of all cases, −1 to 1.
        allowed_abs: atol + range·max|b|, the absolute part of the bound; the largest is that of all cases.
        rtol: the relative part, times |b|.
        passed: every element lies within the bound, and the cosine is high enough.
    """

    output: str
    max_abs: float
    mse: float
    cosine: float
    allowed_abs: float
    rtol: float
    passed: bool
    why: str = ""

    def as_json(self) -> dict[str, Any]:
        """Plain data; a distance that is not finite becomes null, since JSON has no infinity."""
        data = asdict(self)
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in data.items()
        }


def absolute_bound(expected: Sequence[NDArray[Any]], tolerance: Tolerance) -> float:
    """atol + range · the largest finite magnitude of `expected`, one output's answers to all golden feeds.

    A step of 8-bit integers is a share of what the output holds at its largest, also where it answers next to nothing.
    """
    largest = [np.abs(x[np.isfinite(x)]).max(initial=0.0) for x in map(_float, expected)]
    return tolerance.atol + tolerance.range * float(max(largest, default=0.0))


def compare(
    source: Sequence[Tensors],
    answers: Sequence[Tensors],
    tolerance: Tolerance,
    rounding: Mapping[str, float] | None = None,
) -> tuple[Parity, ...]:
    """One verdict an output, over all cases.

    Args:
        source: the source framework's outputs by name, one mapping a case.
        answers: the stage's outputs for the same inputs.
        rounding: by output, what is allowed besides: how far off the source itself is for its own quantization.

    Source: the bound is numpy.allclose's, plus a share of the output's range for quantized stages.
    """
    return tuple(
        _output(
            name,
            [s[name] for s in source],
            [a.get(name) for a in answers],
            _widened(tolerance, name, rounding or {}),
        )
        for name in source[0]
    )


def _output(
    name: str,
    source: Sequence[NDArray[Any]],
    answers: Sequence[NDArray[Any] | None],
    tolerance: Tolerance,
) -> Parity:
    bound = absolute_bound(source, tolerance)
    cases = [_one(name, b, a, bound, tolerance.rtol) for b, a in zip(source, answers, strict=True)]
    same = [
        (_float(a).ravel(), _float(b).ravel())
        for b, a in zip(source, answers, strict=True)
        if a is not None and a.shape == b.shape
    ]
    cosine = -1.0
    if len(same) == len(source):
        x, y = (np.concatenate(side) for side in zip(*same, strict=True))
        cosine = _cosine(x, y)
    worst = replace(_worst(cases), cosine=cosine)
    if worst.passed and cosine < tolerance.cosine:
        return replace(worst, passed=False, why=f"cosine is below {tolerance.cosine}")
    return worst


def _widened(tolerance: Tolerance, name: str, rounding: Mapping[str, float]) -> Tolerance:
    more = rounding.get(name, 0.0)
    return tolerance.model_copy(update={"atol": tolerance.atol + more}) if more else tolerance


def require(parities: Sequence[Parity], *, stage: str, where: str, precision: str) -> None:
    """Raises ParityError: an output is out of bounds; names stage, output, distance and bound."""
    for p in parities:
        if not p.passed:
            fix = "allow more with --atol/--rtol if your use of the model can bear it, or use another --precision"
            if precision == "int8":
                fix = "give more representative --calibration data, use --precision fp16 or fp32, or allow more with --atol/--rtol"
            elif precision.endswith("-weights"):
                fix = "use --precision fp32 or one with wider weights, or allow more with --atol/--rtol"
            raise ParityError(
                f"{where}: stage {stage} changed output {p.output!r}: {p.why}; "
                f"max |a−b| {p.max_abs:.3g}, allowed {p.allowed_abs:.3g} + {p.rtol:.3g}·|b|, cosine {p.cosine:.6f}",
                fix,
            )


def _one(name: str, b: NDArray[Any], a: NDArray[Any] | None, bound: float, rtol: float) -> Parity:
    """One case; its cosine is that of all, see `_output`."""

    def verdict(max_abs: float, mse: float, why: str) -> Parity:
        return Parity(
            output=name,
            max_abs=max_abs,
            mse=mse,
            cosine=-1.0,
            allowed_abs=bound,
            rtol=rtol,
            passed=not why,
            why=why,
        )

    if a is None:
        return verdict(math.inf, math.inf, "the output is gone")
    if a.shape != b.shape:
        return verdict(math.inf, math.inf, f"shape {list(a.shape)} became of {list(b.shape)}")
    x, y = _float(a), _float(b)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    finite = np.isfinite(x) & np.isfinite(y)
    # What is not finite on either side is the same or infinitely far off.
    distance = np.where(same, 0.0, math.inf)
    distance = np.where(
        finite, np.abs(np.where(finite, x, 0.0) - np.where(finite, y, 0.0)), distance
    )
    limit = bound + rtol * np.abs(np.where(finite, y, 0.0))
    max_abs = float(distance.max(initial=0.0))
    mse = float(np.mean(distance**2)) if distance.size else 0.0
    why = ""
    if not (distance <= limit).all():
        at = np.unravel_index(int(np.argmax(distance - limit)), distance.shape)
        index = [int(i) for i in at]
        why = f"at {index} {float(x[at]):.6g} came for {float(y[at]):.6g}"
    return verdict(max_abs, mse, why)


def _worst(cases: Sequence[Parity]) -> Parity:
    failed = [p for p in cases if not p.passed]
    base = max(failed or cases, key=lambda p: p.max_abs)
    return replace(
        base,
        max_abs=max(p.max_abs for p in cases),
        mse=max(p.mse for p in cases),
        passed=not failed,
    )


def _float(x: NDArray[Any]) -> NDArray[np.float64]:
    return np.asarray(x).astype(np.float64)


def _cosine(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    finite = np.isfinite(x) & np.isfinite(y)
    a, b = x[finite], y[finite]
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(np.clip(a @ b / norms, -1.0, 1.0))
