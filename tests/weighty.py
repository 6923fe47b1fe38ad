"""A small model most of which is weights: a table, a convolution, products, a bias."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.models import FLOAT, model, tensors, value


def weighty_model() -> onnx.ModelProto:
    """int32 `tokens` [1, 16] to float32 `scores` [1, 10], 62,218 numbers in its weights.

    Gather (table [256, 64]), MatMul ([64, 128]), Conv ([128, 128, 1, 2] over the tokens), Gemm (transB, [10, 128], bias), and an Add of
    [1, 16, 64] numbers that nothing is multiplied with.
    """
    rng = np.random.default_rng(7)

    def normal(*shape: int) -> np.ndarray:
        fan_in = np.prod(shape[1:]) if len(shape) == 4 else shape[-1]
        return (rng.normal(size=shape) / np.sqrt(fan_in)).astype(np.float32)

    weights = {
        "table": normal(256, 64) * 8,
        "places": normal(1, 16, 64),
        "up": normal(64, 128) * 1.4,
        "kernel": normal(128, 128, 1, 2),
        "head": normal(10, 128) * 4,
        "bias": normal(10),
        "axes": np.array([3], np.int64),
    }
    nodes = [
        helper.make_node("Gather", ["table", "tokens"], ["embedded"], "embed"),
        helper.make_node("Add", ["embedded", "places"], ["placed"], "place"),
        helper.make_node("MatMul", ["placed", "up"], ["wide"], "widen"),
        helper.make_node("Relu", ["wide"], ["active"], "activate"),
        helper.make_node("Transpose", ["active"], ["channels"], "turn", perm=[0, 2, 1]),
        helper.make_node("Reshape", ["channels", "image_shape"], ["image"], "as_image"),
        helper.make_node("Conv", ["image", "kernel"], ["mixed"], "mix"),
        helper.make_node("GlobalAveragePool", ["mixed"], ["pooled"], "pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], "flatten"),
        helper.make_node("Gemm", ["flat", "head", "bias"], ["scores"], "score", transB=1),
    ]
    weights["image_shape"] = np.array([1, 128, 1, 16], np.int64)
    del weights["axes"]
    return model(
        nodes,
        [value("tokens", TensorProto.INT32, [1, 16])],
        [value("scores", FLOAT, [1, 10])],
        tensors(weights),
    )


def token_rows(count: int) -> np.ndarray:
    """int32 [count, 16]: what `weighty_model` takes, one row after the other."""
    return np.random.default_rng(3).integers(0, 256, (count, 16)).astype(np.int32)
