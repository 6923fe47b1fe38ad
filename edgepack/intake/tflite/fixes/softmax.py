"""SOFTMAX with a beta other than 1."""

from __future__ import annotations

from typing import Any

import numpy as np


def scale_logits(ctx: Any, node: Any) -> None:
    """softmax(beta · x): tf2onnx 1.17 multiplies the probabilities by beta instead (tflite_handlers/tfl_math.py).

    Source: tensorflow/lite/kernels/internal/reference/softmax.h.
    """
    from tf2onnx import utils

    beta = node.get_attr_value("beta", 1.0)
    if beta == 1:
        return
    node.set_attr("beta", 1.0)
    factor = ctx.make_const(utils.make_name("beta"), np.array(beta, np.float32)).output[0]
    shape, dtype = ctx.get_shape(node.input[0]), ctx.get_dtype(node.input[0])
    scaled = ctx.make_node(
        "Mul", [node.input[0], factor], shapes=[shape], dtypes=[dtype], skip_conversion=True
    )
    ctx.replace_inputs(node, [scaled.output[0]])
