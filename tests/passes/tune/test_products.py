"""Pointwise convolutions of few places as matrix products."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.tune.trial import CLOSE, graph, node, random, tried


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("places", [(7, 7), (1, 1), (1, 3), (5, 2)])
def test_a_pointwise_convolution_of_few_places_becomes_a_product(
    places: tuple[int, int], bias: bool
) -> None:
    nodes = [node("Conv", "x kernel bias" if bias else "x kernel", "c"), node("Relu", "c", "y")]
    constants = {"kernel": random(6, 8, 1, 1), "bias": random(6)}
    trial = tried("products", graph(nodes, constants, x=(2, 8, *places)))
    assert trial.count == 1
    assert trial.operators == {"Transpose": 2, "MatMul": 1, "Relu": 1} | (
        {"Add": 1} if bias else {}
    )
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("kernel", "x", "attributes"),
    [
        ((6, 8, 1, 1), (1, 8, 8, 8), {}),
        ((6, 8, 1, 1), (1, 8, 4, 7), {}),
        ((6, 8, 1, 1), (1, 8, 15, 15), {}),
        ((6, 8, 3, 3), (1, 8, 7, 7), {}),
        ((6, 8, 1, 1), (1, 8, 7, 7), {"strides": [2, 2]}),
        ((6, 8, 1, 1), (1, 8, 7, 7), {"pads": [1, 1, 1, 1]}),
        ((8, 1, 1, 1), (1, 8, 7, 7), {"group": 8}),
        ((6, 8, 1, 1), ("batch", 8, 7, 7), {}),
    ],
    ids=["fours", "fours at odd width", "many", "3×3", "steps", "pads", "depthwise", "free size"],
)
def test_other_convolutions_are_no_products(
    kernel: tuple[int, ...], x: tuple[int, ...], attributes: dict[str, object]
) -> None:
    nodes = [node("Conv", "x kernel", "y", **attributes)]
    assert tried("products", graph(nodes, {"kernel": random(*kernel)}, x=x)).count == 0


def test_a_kernel_or_a_bias_that_is_computed_stays() -> None:
    nodes = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f", axis=0)]
    nodes += [node("Reshape", "f size", "b"), node("Conv", "x kernel b", "y")]
    constants = {"kernel": random(4, 4, 1, 1), "size": np.array([4], np.int64)}
    assert tried("products", graph(nodes, constants, x=(1, 4, 7, 7))).count == 0
