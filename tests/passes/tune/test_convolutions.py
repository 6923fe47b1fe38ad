"""Rewrites that end in a convolution: PRelu, scale and shift, channels of zeros, one output channel, pads, resizing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.passes.tune.trial import CLOSE, graph, node, random, tried

PRELU = [node("PRelu", "x slopes", "y")]
SCALE_SHIFT = [node("Mul", "x scale", "m"), node("Add", "m shift", "y")]


def zeros(*sizes: int) -> np.ndarray:
    return np.array(sizes, np.int64)


# PRelu


@pytest.mark.parametrize(
    "slopes",
    [random(4, 1, 1) * 0.3, random(1, 4, 1, 1) + 2, np.full((1,), 0.25, np.float32)],
    ids=["by channel", "some above 1", "one for all"],
)
def test_prelu_becomes_two_scalings(slopes: np.ndarray) -> None:
    trial = tried("prelu", graph(PRELU, {"slopes": slopes}))
    assert trial.count == 1
    assert trial.operators == {"Conv": 2, "Relu": 1, "Add": 1}
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("slopes", "x"),
    [
        (random(4, 6, 6), (1, 4, 6, 6)),
        (random(1, 1, 6), (1, 4, 6, 6)),
        (random(4, 1), (1, 4, 6)),
        (random(4, 1, 1), ("batch", 4, 6, 6)),
        (random(1), (6,)),
        (np.array([0, 1, np.inf, 0], np.float32).reshape(4, 1, 1), (1, 4, 6, 6)),
        # 1 − s is −s in float32, and s·x + (1 − s)·x is 0.
        (np.full((4, 1, 1), 1e8, np.float32), (1, 4, 6, 6)),
    ],
    ids=["by element", "by column", "no image", "free size", "a row", "infinite", "steep"],
)
def test_prelu_of_another_kind_stays(slopes: np.ndarray, x: tuple[int, ...]) -> None:
    trial = tried("prelu", graph(PRELU, {"slopes": slopes}, x=x))
    assert (trial.count, trial.operators) == (0, {"PRelu": 1})


def test_prelu_with_slopes_that_are_computed_stays() -> None:
    nodes = [node("GlobalAveragePool", "x", "slopes"), *PRELU]
    assert tried("prelu", graph(nodes, {})).count == 0


# Scale and shift


def test_scale_and_shift_become_a_depthwise_convolution() -> None:
    constants = {"scale": random(1, 4, 1, 1), "shift": random(4, 1, 1)}
    trial = tried("scale_shift", graph(SCALE_SHIFT, constants))
    assert (trial.count, trial.operators) == (1, {"Conv": 1})
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("scale", "shift", "outputs"),
    [
        (random(1, 1, 1, 6), random(4, 1, 1), ("y",)),
        (random(4, 1, 1), random(4, 6, 6), ("y",)),
        (random(3, 4, 1, 1), random(4, 1, 1), ("y",)),
        (random(4, 1, 1), random(4, 1, 1), ("y", "m")),
    ],
    ids=["along the width", "by element", "makes three of one", "the product is seen"],
)
def test_scale_and_shift_of_another_kind_stay(
    scale: np.ndarray, shift: np.ndarray, outputs: tuple[str, ...]
) -> None:
    proto = graph(SCALE_SHIFT, {"scale": scale, "shift": shift}, outputs=outputs)
    trial = tried("scale_shift", proto)
    assert (trial.count, trial.operators) == (0, {"Mul": 1, "Add": 1})


# Channels of zeros


def shortcut(pads: np.ndarray, fill: float = 0.0) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x kernel", "c", pads=[1] * 4),
        node("Pad", "x pads fill", "p"),
        node("Add", "c p", "y"),
    ]
    kernel = random(7, 4, 3, 3)
    return graph(nodes, {"kernel": kernel, "pads": pads, "fill": np.float32(fill)})


@pytest.mark.parametrize("pads", [zeros(0, 0, 0, 0, 0, 3, 0, 0), zeros(0, 1, 0, 0, 0, 2, 0, 0)])
def test_channels_of_zeros_before_a_sum_become_a_convolution(pads: np.ndarray) -> None:
    trial = tried("channel_pads", shortcut(pads))
    assert (trial.count, trial.operators) == (1, {"Conv": 2, "Add": 1})
    assert trial.gap == 0


def test_channels_of_ones_stay() -> None:
    assert tried("channel_pads", shortcut(zeros(0, 0, 0, 0, 0, 3, 0, 0), 1.0)).count == 0


def test_channels_of_zeros_that_are_no_summand_stay() -> None:
    nodes = [node("Pad", "x pads", "p"), node("Relu", "p", "y")]
    assert tried("channel_pads", graph(nodes, {"pads": zeros(0, 0, 0, 0, 0, 3, 0, 0)})).count == 0


# A clamp behind a sum


def clamped(summand: str, **constants: np.ndarray) -> onnx.ModelProto:
    nodes = [
        node("Conv", "x kernel", "c", pads=[1] * 4),
        node("Add", f"c {summand}", "s"),
        node("Clip", "s low high", "y"),
    ]
    limits = {"low": np.float32(0), "high": np.float32(1)}
    return graph(nodes, {"kernel": random(4, 4, 3, 3), **limits, **constants})


def test_a_clamp_behind_a_sum_gets_a_convolution_to_be_fused_into() -> None:
    trial = tried("clamps", clamped("x"))
    assert (trial.count, trial.operators) == (1, {"Conv": 2, "Add": 1, "Clip": 1})
    assert trial.gap == 0


def test_a_clamp_behind_a_shift_stays() -> None:
    assert tried("clamps", clamped("shift", shift=random(4, 1, 1))).count == 0


def test_a_clamp_behind_a_convolution_or_a_sum_that_others_see_stays() -> None:
    nodes = [
        node("Conv", "x kernel", "c", pads=[1] * 4),
        node("Clip", "c low high", "d"),
        node("Add", "c d", "s"),
        node("Clip", "s low high", "y"),
    ]
    constants = {
        "kernel": random(4, 4, 3, 3),
        "low": np.float32(0),
        "high": np.float32(1),
    }
    assert tried("clamps", graph(nodes, constants, outputs=("y", "s"))).count == 0


# One output channel


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_to_one_channel_becomes_a_depthwise_one_and_a_sum(bias: bool) -> None:
    inputs = "x kernel bias" if bias else "x kernel"
    nodes = [node("Conv", inputs, "y", pads=[1] * 4, strides=[2, 2], group=1)]
    constants = {"kernel": random(1, 4, 3, 3), "bias": random(1)}
    trial = tried("thin_conv", graph(nodes, constants))
    assert (trial.count, trial.operators) == (1, {"Conv": 2})
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("kernel", "group"),
    [(random(2, 4, 3, 3), 1), (random(1, 4, 1, 1), 1), (random(4, 1, 3, 3), 4)],
    ids=["two channels", "1×1", "depthwise"],
)
def test_other_convolutions_stay(kernel: np.ndarray, group: int) -> None:
    proto = graph([node("Conv", "x kernel", "y", group=group)], {"kernel": kernel})
    assert tried("thin_conv", proto).count == 0


# Pads


def padded(pads: np.ndarray, *, convs: int = 1, outputs: tuple[str, ...] = (), **of_pad: object):
    nodes = [node("Pad", "x pads", "p", **of_pad)]
    nodes += [node("Conv", f"p kernel{i}", f"y{i}", pads=[0, 1, 1, 0]) for i in range(convs)]
    kernels = {f"kernel{i}": random(3, 4, 3, 3, seed=i) for i in range(convs)}
    names = [f"y{i}" for i in range(convs)]
    return graph(nodes, {"pads": pads, **kernels}, outputs=(*names, *outputs))


def test_zeros_about_an_image_become_the_pads_of_all_convolutions_behind() -> None:
    trial = tried("pads", padded(zeros(0, 0, 1, 2, 0, 0, 3, 4), convs=2))
    assert (trial.count, trial.operators) == (2, {"Conv": 2})
    assert trial.gap == 0


def test_a_pad_that_is_an_output_stays_for_that() -> None:
    trial = tried("pads", padded(zeros(0, 0, 1, 1, 0, 0, 1, 1), outputs=("p",)))
    assert (trial.count, trial.operators) == (1, {"Pad": 1, "Conv": 1})


@pytest.mark.parametrize(
    ("pads", "of_pad"),
    [
        (zeros(0, 0, 1, 1, 0, 0, 1, 1), {"mode": "reflect"}),
        (zeros(0, 0, -1, 1, 0, 0, 1, 1), {}),
    ],
    ids=["reflections", "cuts"],
)
def test_pads_of_other_kinds_stay(pads: np.ndarray, of_pad: dict[str, object]) -> None:
    assert tried("pads", padded(pads, **of_pad)).count == 0


def test_pads_before_a_convolution_with_automatic_pads_stay() -> None:
    nodes = [node("Pad", "x pads", "p"), node("Conv", "p kernel", "y", auto_pad="SAME_UPPER")]
    constants = {"pads": zeros(0, 0, 1, 1, 0, 0, 1, 1), "kernel": random(3, 4, 3, 3)}
    assert tried("pads", graph(nodes, constants)).count == 0


# Resize


def resized(scales: list[float], kernel: np.ndarray, **of_resize: object) -> onnx.ModelProto:
    nodes = [node("Resize", "x  scales".replace("  ", " "), "r", **of_resize)]
    nodes[0].input.insert(1, "")
    nodes.append(node("Conv", "r kernel bias", "y"))
    constants = {
        "scales": np.array(scales, np.float32),
        "kernel": kernel,
        "bias": random(kernel.shape[0]),
    }
    return graph(nodes, constants)


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_a_pointwise_convolution_goes_before_an_enlargement(mode: str) -> None:
    trial = tried("resize", resized([1, 1, 2, 3], random(3, 4, 1, 1), mode=mode))
    assert trial.count == 1
    assert [n.op_type for n in trial.proto.graph.node] == ["Conv", "Resize"]
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("scales", "kernel", "of_resize"),
    [
        ([1, 1, 0.5, 0.5], random(3, 4, 1, 1), {}),
        ([1, 1, 2, 2], random(3, 4, 3, 3), {}),
        ([1, 1, 2, 2], random(5, 4, 1, 1), {}),
    ],
    ids=["makes smaller", "3×3", "adds channels"],
)
def test_other_resizings_stay(
    scales: list[float], kernel: np.ndarray, of_resize: dict[str, object]
) -> None:
    assert tried("resize", resized(scales, kernel, **of_resize)).count == 0
