"""Functions of float64 that onnxruntime 1.32 has no kernels for: computed in float32, to a relative 1e-7.

Measured with onnxruntime 1.32 on a CPU: it does not load a model with one of them (NOT_IMPLEMENTED).
"""

from __future__ import annotations

from typing import Any

import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula


def in_single(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the ONNX operator of the same name, with Casts around it for float64."""
    if ctx.get_dtype(node.input[0]) != onnx.TensorProto.DOUBLE:
        return  # The node as it stands is ONNX's.
    f = Formula(ctx, node)
    f.finish(f(node.type, f.cast(f.inputs[0], onnx.TensorProto.FLOAT)))


FAMILY = dict.fromkeys(
    (
        "Acos",
        "Acosh",
        "Asin",
        "Asinh",
        "Atan",
        "Atanh",
        "Cosh",
        "Elu",
        "Erf",
        "Selu",
        "Sinh",
        "Softplus",
        "Softsign",
        "Tan",
    ),
    in_single,
)
