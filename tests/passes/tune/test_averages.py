"""Means of convolutions as matrix products."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.tune.trial import CLOSE, graph, node, random, tried

POOL = node("GlobalAveragePool", "c", "y")


@pytest.mark.parametrize(
    ("x", "attributes"),
    [
        ((1, 8, 4, 4), {"pads": [1, 1, 1, 1]}),
        ((2, 8, 4, 4), {}),
        ((1, 8, 3, 5), {"pads": [0, 1, 2, 0]}),
        ((1, 8, 4, 4), {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
        ((1, 8, 3, 3), {}),
    ],
    ids=["pads", "two images, no pads", "uneven", "steps", "one place"],
)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("opset", [8, 17])
def test_a_mean_of_a_convolution_becomes_a_product(
    x: tuple[int, ...], attributes: dict[str, object], bias: bool, opset: int
) -> None:
    nodes = [node("Conv", "x kernel bias" if bias else "x kernel", "c", **attributes), POOL]
    constants = {"kernel": random(5, 8, 3, 3), "bias": random(5)}
    trial = tried("averages", graph(nodes, constants, x=x, opset=opset))
    assert trial.count == 1
    assert trial.operators == {"Flatten": 1, "Gemm" if bias else "MatMul": 1, "Reshape": 1}
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("nodes", "x", "outputs"),
    [
        ([node("Conv", "x kernel", "c"), POOL], (1, 8, 5, 4), ("y",)),
        ([node("Conv", "x kernel", "c"), POOL], ("batch", 8, 4, 4), ("y",)),
        ([node("Conv", "x kernel", "c", dilations=[2, 1]), POOL], (1, 8, 5, 3), ("y",)),
        ([node("Conv", "x kernel", "c", group=2), POOL], (1, 16, 4, 4), ("y",)),
        ([node("Conv", "x kernel", "c"), POOL], (1, 8, 4, 4), ("y", "c")),
        ([node("Conv", "x kernel", "r"), node("Relu", "r", "c"), POOL], (1, 8, 4, 4), ("y",)),
        ([node("Conv", "x kernel", "c"), node("GlobalMaxPool", "c", "y")], (1, 8, 4, 4), ("y",)),
    ],
    ids=["large", "free size", "dilated", "groups", "an output", "a clamp between", "maximum"],
)
def test_other_means_stay(nodes: list, x: tuple[int | str, ...], outputs: tuple[str, ...]) -> None:
    constants = {"kernel": random(6, 8, 3, 3)}
    assert tried("averages", graph(nodes, constants, x=x, outputs=outputs)).count == 0


def test_a_bias_that_is_computed_stays() -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f", axis=0)]
    nodes += [node("Reshape", "f size", "b"), node("Conv", "x kernel b", "c"), POOL]
    constants = {"kernel": random(8, 8, 3, 3), "size": np.array([8], np.int64)}
    assert tried("averages", graph(nodes, constants, x=(1, 8, 4, 4))).count == 0
