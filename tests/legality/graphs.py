"""Graphs for legality tests: a network with what real ones have, and quantized ones with one thing wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edgepack.legality.graph import GraphView
from tests.models import FLOAT, model, tensors, value

INT8, UINT8, INT16 = TensorProto.INT8, TensorProto.UINT8, TensorProto.INT16
_NUMPY = {INT8: np.int8, UINT8: np.uint8, INT16: np.int16}


def view(proto: onnx.ModelProto, folder: Path | None = None, **options: Any) -> GraphView:
    """The graph as rules see it."""
    return GraphView(proto, folder or Path(), **options)


def residual_model() -> onnx.ModelProto:
    """float32 `image` [1, 3, 16, 16] to float32 `probabilities` [1, 10]: convolution, depthwise convolution, residual, squeeze and excite, classifier."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) * 0.3).astype(np.float32)

    arrays = {
        "w1": weight(8, 3, 3, 3),
        "b1": weight(8),
        "w2": weight(8, 1, 3, 3),
        "b2": weight(8),
        "w3": weight(8, 8, 1, 1),
        "b3": weight(8),
        "w4": weight(8, 8, 1, 1),
        "b4": weight(8),
        "w5": weight(8, 10),
        "b5": weight(10),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], "stem", pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"], "stem_relu"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "depthwise", pads=[1] * 4, group=8),
        helper.make_node("Relu", ["c2"], ["r2"], "depthwise_relu"),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["c3"], "project"),
        helper.make_node("Add", ["c3", "r1"], ["sum"], "residual"),
        helper.make_node("GlobalAveragePool", ["sum"], ["squeezed"], "squeeze"),
        helper.make_node("Conv", ["squeezed", "w4", "b4"], ["excited"], "excite"),
        helper.make_node("Sigmoid", ["excited"], ["gate"], "gate"),
        helper.make_node("Mul", ["sum", "gate"], ["scaled"], "scale"),
        helper.make_node("GlobalAveragePool", ["scaled"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "w5", "b5"], ["logits"], "classifier"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
    ]
    return model(
        nodes,
        [value("image", FLOAT, [1, 3, 16, 16])],
        [value("probabilities", FLOAT, [1, 10])],
        tensors(arrays),
    )


def quantized_conv(
    *,
    activations: int = INT8,
    weights: int = INT8,
    activation_zero: int = 0,
    weight_zero: int = 0,
    per_channel: bool = True,
    integer_bias: bool = False,
    quantized_softmax: bool = False,
    computed_zero: bool = False,
) -> onnx.ModelProto:
    """float32 `image` [1, 2, 4, 4] through Q/DQ pairs and a Conv of 3 channels to float32 `out`; by default what TensorRT takes."""
    scales = np.full(3, 0.1, np.float32) if per_channel else np.float32(0.1)
    weight_zeros = np.full(np.shape(scales), weight_zero, _NUMPY[weights])
    arrays: dict[str, Any] = {
        "x_scale": np.float32(0.05),
        "x_zero": np.array(activation_zero, _NUMPY[activations]),
        "w": np.ones((3, 2, 3, 3), _NUMPY[weights]),
        "w_scale": scales,
        "w_zero": weight_zeros,
        "bias": np.ones(3, np.int32 if integer_bias else np.float32),
        "bias_scale": np.full(3, 0.005, np.float32),
    }
    zero = "x_zero"
    nodes = []
    inputs = [value("image", FLOAT, [1, 2, 4, 4])]
    if computed_zero:
        inputs.append(value("given_zero", activations, []))
        nodes.append(helper.make_node("Identity", ["given_zero"], ["made_zero"], "make_zero"))
        zero = "made_zero"
    axis = {"axis": 0} if per_channel else {}
    nodes += [
        helper.make_node("QuantizeLinear", ["image", "x_scale", zero], ["x_q"], "x_quantize"),
        helper.make_node("DequantizeLinear", ["x_q", "x_scale", zero], ["x_dq"], "x_dequantize"),
        helper.make_node(
            "DequantizeLinear", ["w", "w_scale", "w_zero"], ["w_dq"], "w_dequantize", **axis
        ),
    ]
    bias = "bias"
    if integer_bias:
        nodes.append(
            helper.make_node(
                "DequantizeLinear", ["bias", "bias_scale"], ["bias_dq"], "bias_dequantize", axis=0
            )
        )
        bias = "bias_dq"
    nodes += [
        helper.make_node("Conv", ["x_dq", "w_dq", bias], ["c"], "conv"),
        helper.make_node("QuantizeLinear", ["c", "x_scale", zero], ["c_q"], "c_quantize"),
        helper.make_node("DequantizeLinear", ["c_q", "x_scale", zero], ["c_dq"], "c_dequantize"),
        helper.make_node(
            "Softmax", ["c_dq"], ["soft" if quantized_softmax else "out"], "softmax", axis=-1
        ),
    ]
    if quantized_softmax:
        nodes += [
            helper.make_node("QuantizeLinear", ["soft", "x_scale", zero], ["s_q"], "s_quantize"),
            helper.make_node("DequantizeLinear", ["s_q", "x_scale", zero], ["out"], "s_dequantize"),
        ]
    return model(nodes, inputs, [value("out", FLOAT, [1, 3, 2, 2])], tensors(arrays))


def one_operator(
    operator: str,
    shapes: dict[str, list[int | str]],
    out: list[int | str] | None,
    *,
    constants: dict[str, np.ndarray] | None = None,
    dtype: int = FLOAT,
    out_dtype: int | None = None,
    domain: str = "",
    opset: int = 17,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node that takes the inputs `shapes`, then `constants`, and makes `out`."""
    constants = constants or {}
    node = helper.make_node(
        operator, [*shapes, *constants], ["out"], operator.lower(), domain=domain, **attributes
    )
    return model(
        [node],
        [value(name, dtype, shape) for name, shape in shapes.items()],
        [value("out", out_dtype or dtype, out)],
        tensors(constants),
        opset=opset,
        domains=[domain] if domain else [],
    )
