"""Non-maximum suppression where tf2onnx 1.17 passes a graph on that means something else."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepack.intake.tensorflow.handlers.formula import Formula, original


def first_version(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write NonMaxSuppression, whose name ONNX gives to another operator, as its second version."""
    f = Formula(ctx, node)
    threshold = f.name(np.array(f.attribute("iou_threshold", 0.5), np.float32))
    ctx.replace_inputs(node, [*node.input, threshold])
    node.type = "NonMaxSuppressionV2"
    _by_tf2onnx(ctx, node)


def fifth_version(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write NonMaxSuppressionV5 if its boxes are not softened; tf2onnx takes a sigma below 1 for 0.

    Raises:
        ModelError: soft suppression.
    """
    f = Formula(ctx, node)
    if np.any(f.known(5, "soft_nms_sigma") != 0):
        raise f.refusal(
            f"ONNX has no soft suppression (soft_nms_sigma is {float(f.known(5, '')):g})",
            "set soft_nms_sigma to 0, or end the model before it (--outputs) and suppress in the app",
        )
    _by_tf2onnx(ctx, node)


def _by_tf2onnx(ctx: Any, node: Any) -> None:
    from tf2onnx.onnx_opset.tensor import NonMaxSuppression

    original(ctx, node, NonMaxSuppression)


FAMILY = {
    "NonMaxSuppression": first_version,
    "NonMaxSuppressionV5": fifth_version,
}
