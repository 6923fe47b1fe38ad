"""Simulated quantization as quantization-aware training leaves it: FakeQuantWithMinMax….

Eight bits become QuantizeLinear and DequantizeLinear, per channel too, in int8: symmetric weights then have the zero point 0 that
TensorRT asks for. tf2onnx 1.17 takes neither a narrow range, nor other widths, nor ranges beside 0, nor channels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.intake.tensorflow.handlers.formula import Formula


def fake_quant(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write x rounded to the steps of a quantized range.

    Source: TensorFlow 2.21, core/kernels/fake_quant_ops_functor.h (Nudge and the functors).
    """
    f = Formula(ctx, node)
    x = f.inputs[0]
    if node.type == "FakeQuantWithMinMaxArgs":
        low, high = (
            np.array(f.attribute(k, d), np.float32) for k, d in (("min", -6.0), ("max", 6.0))
        )
    else:
        low, high = (f.known(i, "the range of the quantization") for i in (1, 2))
    bits = int(f.attribute("num_bits", 8))
    first = 1 if f.attribute("narrow_range", 0) else 0
    scale, zero = nudged(low, high, first, 2**bits - 1)
    if (high <= low).any():
        raise f.refusal(
            f"its range is empty ({low.min():g} to {high.max():g})",
            "train it until the ranges are set, or remove the operator",
        )
    if bits == 8:
        if first:
            x = f("Max", x, ((first - zero) * scale).astype(np.float32))
        point = (zero - 128).astype(np.int8)
        axis = {"axis": f.rank(x) - 1} if scale.ndim else {}
        f.finish(
            f(
                "DequantizeLinear",
                f("QuantizeLinear", x, scale, point, **axis),
                scale,
                point,
                **axis,
            )
        )
        return
    bottom = ((first - zero) * scale).astype(np.float32)
    top = ((2**bits - 1 - zero) * scale).astype(np.float32)
    x = f("Sub", f("Min", f("Max", x, bottom), top), bottom)
    step = f("Floor", f("Add", f("Div", x, scale), 0.5))
    f.finish(f("Add", f("Mul", step, scale), bottom))


def nudged(
    low: NDArray[Any], high: NDArray[Any], first: int, last: int
) -> tuple[NDArray[Any], NDArray[Any]]:
    """The scale, and the whole number that stands for 0."""
    scale = ((high - low) / np.float32(last - first)).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        zero = np.float32(first) - low / scale
    # C's round: halves away from 0; these are not negative where they count.
    return scale, np.clip(np.floor(zero + np.float32(0.5)), first, last)


FAMILY = {
    "FakeQuantWithMinMaxArgs": fake_quant,
    "FakeQuantWithMinMaxVars": fake_quant,
    "FakeQuantWithMinMaxVarsPerChannel": fake_quant,
}
