"""ARG_MAX and ARG_MIN over an axis that is a list of one."""

from __future__ import annotations

from typing import Any


def scalar_axis(ctx: Any, node: Any) -> None:
    """TFLite takes an axis as a scalar or as a list of one number (arg_min_max.cc); tf2onnx 1.17 fails on the list."""
    from tf2onnx import utils

    axis = node.inputs[1]
    if axis.is_const() and ctx.get_rank(node.input[1]) == 1:
        value = axis.get_tensor_value(as_list=False).reshape(())
        constant = ctx.make_const(utils.make_name("axis"), value)
        ctx.replace_inputs(node, [node.input[0], constant.output[0]])
