"""Gamma and error functions, as distributions use them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

_FLOAT = onnx.TensorProto.FLOAT

#: Lanczos' approximation of Γ with g = 7 and nine terms.
#: Source: openxla/xla, xla/hlo/builder/lib/math.cc (kLanczosCoefficients, Lgamma and Digamma), the same to the last digit.
_G = 7.0
_BASE = 0.99999999999980993227684700473478
_TERMS = (
    676.520368121885098567009190444019,
    -1259.13921672240287047156078755283,
    771.3234287776530788486528258894,
    -176.61502916214059906584551354,
    12.507343278686904814458936853,
    -0.13857109526572011689554707,
    9.984369578019570859563e-6,
    1.50563273514931155834e-7,
)

#: Giles' polynomials for erf⁻¹ in single precision, highest power first, for w < 5 and beyond.
#: Source: openxla/xla, xla/hlo/builder/lib/math.cc (ErfInv32), which names M. Giles, Approximating the erfinv function.
_NEAR: tuple[float, ...] = (
    2.81022636e-08,
    3.43273939e-07,
    -3.5233877e-06,
    -4.39150654e-06,
    0.00021858087,
)
_NEAR += (-0.00125372503, -0.00417768164, 0.246640727, 1.50140941)
_FAR: tuple[float, ...] = (
    -0.000200214257,
    0.000100950558,
    0.00134934322,
    -0.00367342844,
    0.00573950773,
)
_FAR += (-0.0076224613, 0.00943887047, 1.00167406, 2.83297682)


def lgamma(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write log |Γ(x)|."""
    f = Formula(ctx, node)
    x = f.cast(f.inputs[0], _FLOAT)
    left, z, total, _ = _lanczos(f, x)
    # log(z + g + ½), so that large x do not cancel.
    t = f("Add", z, _G + 0.5)
    y = f("Mul", f("Add", z, 0.5), f("Sub", f("Log", t), 1))
    y = f("Add", f("Add", y, f("Log", total)), 0.5 * math.log(2 * math.pi) - _G)
    sine = f("Abs", f("Sin", f("Mul", f("Sub", x, f("Floor", x)), math.pi)))
    mirrored = f("Sub", f("Sub", np.float32(math.log(math.pi)), f("Log", sine)), y)
    infinite = f("IsInf", x)
    f.finish(f.where(infinite, f("Abs", x), f.where(left, mirrored, y)))


def digamma(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Γ′(x)/Γ(x); NaN at 0, −1, −2 …"""
    f = Formula(ctx, node)
    x = f.cast(f.inputs[0], _FLOAT)
    left, z, total, slope = _lanczos(f, x)
    t = f("Add", z, _G + 0.5)
    y = f("Sub", f("Add", f("Log", t), f("Div", slope, total)), f("Mul", f("Reciprocal", t), _G))
    turn = f("Mul", f("Sub", x, f("Floor", f("Add", x, 0.5))), math.pi)
    mirrored = f("Sub", y, f("Div", f("Mul", f("Cos", turn), math.pi), f("Sin", turn)))
    pole = f("And", f("LessOrEqual", x, 0), f("Equal", x, f("Floor", x)))
    y = f.where(left, mirrored, y)
    f.finish(f.where(pole, np.array(np.nan, np.float32), y))


def erfinv(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write erf⁻¹(x), ±∞ at ±1."""
    f = Formula(ctx, node)
    x = f.cast(f.inputs[0], _FLOAT)
    product = f("Mul", f("Sub", np.float32(1), x), f("Add", x, 1))
    f.finish(_erfinv(f, x, product))


def ndtri(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the normal distribution's quantile: √2·erf⁻¹(2p − 1)."""
    f = Formula(ctx, node)
    p = f.cast(f.inputs[0], _FLOAT)
    # (1 − x)(1 + x) for x = 2p − 1, without the loss of the small p's digits.
    product = f("Mul", f("Mul", p, 4), f("Sub", np.float32(1), p))
    x = f("Sub", f("Mul", p, 2), 1)
    f.finish(f("Mul", _erfinv(f, x, product), math.sqrt(2)))


def _erfinv(f: Formula, x: Value, product: Value) -> Value:
    w = f("Neg", f("Log", product))
    near = _polynomial(f, f("Sub", w, 2.5), _NEAR)
    far = _polynomial(f, f("Sub", f("Sqrt", f("Max", w, np.float32(5))), 3), _FAR)
    y = f("Mul", f.where(f("Less", w, 5), near, far), x)
    end = f("Equal", product, 0)
    return f.where(end, f("Mul", x, np.array(np.inf, np.float32)), y)


def _lanczos(f: Formula, x: Value) -> tuple[Value, Value, Value, Value]:
    """Where x < ½ (there Γ(1 − x) stands in), z, the sum of the terms at z, and its derivative."""
    left = f("Less", x, 0.5)
    z = f.where(left, f("Neg", x), f("Sub", x, 1))
    total: Value | None = None
    slope: Value | None = None
    for i, term in enumerate(_TERMS, start=1):
        inverse = f("Reciprocal", f("Add", z, float(i)))
        part = f("Mul", inverse, term)
        total = f("Add", part, _BASE) if total is None else f("Add", total, part)
        change = f("Neg", f("Mul", part, inverse))
        slope = change if slope is None else f("Add", slope, change)
    assert total is not None
    assert slope is not None
    return left, z, total, slope


def _polynomial(f: Formula, x: Value, factors: tuple[float, ...]) -> Value:
    y = f("Add", f("Mul", x, factors[0]), factors[1])
    for factor in factors[2:]:
        y = f("Add", f("Mul", y, x), factor)
    return y


FAMILY = {"Digamma": digamma, "Erfinv": erfinv, "Lgamma": lgamma, "Ndtri": ndtri}
