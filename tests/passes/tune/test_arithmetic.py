"""Rewrites of arithmetic: constants on the way into a Conv, Gelu, layer normalization, matrix products with a bias."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest

from tests.passes.tune.trial import CLOSE, graph, node, random, tried

RESCALING = [node("Mul", "x by", "m"), node("Sub", "m less", "s")]
PIXELS = {"by": np.float32(1 / 127.5), "less": np.float32(1)}


def rescaled(
    *, constants: dict[str, np.ndarray] | None = None, outputs: tuple[str, ...] = ("y",), **of_conv
) -> onnx.ModelProto:
    nodes = [*RESCALING, node("Conv", "s kernel bias", "y", **of_conv)]
    channels = 4 // of_conv.get("group", 1)
    held = {"kernel": random(8, channels, 3, 3), "bias": random(8), **(constants or PIXELS)}
    return graph(nodes, held, outputs=outputs)


# Affine


def test_a_rescaling_goes_into_the_weights_of_the_convolution() -> None:
    trial = tried("affine", rescaled())
    assert (trial.count, trial.operators) == (1, {"Conv": 1})
    assert trial.gap < CLOSE


def test_of_a_shift_before_padding_one_addition_stays() -> None:
    """The zeros about the image come after the shift."""
    trial = tried("affine", rescaled(pads=[1] * 4))
    assert (trial.count, trial.operators) == (1, {"Add": 1, "Conv": 1})
    assert trial.gap < CLOSE


def test_statistics_by_channel_go_through_a_transposition() -> None:
    nodes = [
        node("Sub", "x mean", "s"),
        node("Div", "s deviation", "d"),
        node("Transpose", "d", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t kernel", "y"),
    ]
    constants = {
        "mean": random(3),
        "deviation": np.abs(random(1, 1, 1, 3)) + 0.5,
        "kernel": random(8, 3, 3, 3),
    }
    trial = tried("affine", graph(nodes, constants, x=(1, 6, 6, 3)))
    assert (trial.count, trial.operators) == (1, {"Transpose": 1, "Conv": 1})
    assert trial.gap < CLOSE


def test_without_a_convolution_two_operators_are_left_of_four() -> None:
    nodes = [
        *RESCALING,
        node("Add", "s more", "a"),
        node("Div", "a two", "d"),
        node("Relu", "d", "y"),
    ]
    trial = tried("affine", graph(nodes, {**PIXELS, "more": random(4, 1, 1), "two": np.float32(2)}))
    assert (trial.count, trial.operators) == (1, {"Mul": 1, "Add": 1, "Relu": 1})
    assert trial.gap < CLOSE


def test_what_comes_to_nothing_but_rounding_goes() -> None:
    nodes = [node("Mul", "x by", "m"), node("Div", "m by", "d"), node("Relu", "d", "y")]
    trial = tried("affine", graph(nodes, {"by": PIXELS["by"]}))
    assert (trial.count, trial.operators) == (1, {"Relu": 1})


@pytest.mark.parametrize(
    ("constants", "outputs", "of_conv"),
    [
        ({"by": random(1, 1, 6, 6), "less": np.float32(1)}, ("y",), {}),
        (PIXELS, ("y", "s"), {}),
        (PIXELS, ("y",), {"group": 2}),
    ],
    ids=["by place", "seen", "in groups"],
)
def test_constants_that_a_convolution_cannot_take_stay(
    constants: dict[str, np.ndarray], outputs: tuple[str, ...], of_conv: dict[str, int]
) -> None:
    trial = tried("affine", rescaled(constants=constants, outputs=outputs, **of_conv))
    assert (trial.count, trial.operators) == (0, {"Mul": 1, "Sub": 1, "Conv": 1})


def test_a_constant_that_enlarges_the_value_stays() -> None:
    nodes = [node("Mul", "x by", "m"), node("Mul", "m by", "y")]
    assert tried("affine", graph(nodes, {"by": random(3, 4, 1, 1)}, x=(1, 4, 6, 6))).count == 0


def test_an_addition_that_rounds_to_whole_numbers_stays() -> None:
    nodes = [node("Add", "x magic", "a"), node("Sub", "a magic", "b"), node("Mul", "b two", "y")]
    constants = {"magic": np.float32(1.5 * 2**23), "two": np.float32(2)}
    assert tried("affine", graph(nodes, constants)).count == 0


def test_factors_whose_product_float32_does_not_hold_stay() -> None:
    nodes = [node("Mul", "x large", "a"), node("Mul", "a large", "y")]
    assert tried("affine", graph(nodes, {"large": np.float32(1e30)})).count == 0


def test_a_shift_that_cannot_be_said_in_the_units_of_the_input_stays_behind_the_factor() -> None:
    constants = {"by": np.float32(1e-39), "less": np.float32(1)}
    trial = tried("affine", rescaled(constants=constants, pads=[1, 1, 1, 1]))
    assert trial.count == 0


def test_division_of_a_constant_and_by_zero_stays() -> None:
    nodes = [node("Div", "one x", "d"), node("Mul", "d one", "m"), node("Div", "m none", "y")]
    constants = {"one": np.float32(2), "none": np.float32(0)}
    proto = graph(nodes, constants)
    del proto.graph.node[2:]
    proto.graph.node[1].output[0] = "y"
    assert tried("affine", proto).count == 0


# Gelu

ROOT = math.sqrt(2)


def gelu(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    constants = {
        **{"half": 0.5, "one": 1.0, "two": 2.0, "root": ROOT, "inverse": 1 / ROOT},
        "minus": -1 / ROOT,
    }
    return graph(nodes, {k: np.float32(v) for k, v in constants.items()}, outputs=outputs)


KERAS = (
    node("Neg", "x", "n"),
    node("Mul", "n inverse", "i"),
    node("Erf", "i", "e"),
    node("Sub", "one e", "s"),
    node("Mul", "x half", "h"),
    node("Mul", "h s", "y"),
)
SPELLINGS = {
    "keras": KERAS,
    "a negative factor": (node("Mul", "x minus", "i"), *KERAS[2:]),
    "product first": (
        node("Mul", "x inverse", "i"),
        node("Erf", "i", "e"),
        node("Add", "e one", "s"),
        node("Mul", "x s", "p"),
        node("Div", "p two", "y"),
    ),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_gelu_gets_onnxruntimes_spelling(spelling: str) -> None:
    trial = tried("gelu", gelu(*SPELLINGS[spelling]))
    assert trial.count == 1
    kinds = [n.op_type for n in trial.proto.graph.node]
    assert kinds == ["Div", "Erf", "Add", "Mul", "Mul"]
    assert trial.gap < CLOSE
    assert tried("gelu", trial.proto).count == 0


@pytest.mark.parametrize(
    "proto",
    [
        gelu(*KERAS, outputs=("y", "e")),
        gelu(node("Neg", "x", "n"), node("Mul", "n half", "i"), *KERAS[2:]),
        gelu(*KERAS[:3], node("Sub", "two e", "s"), *KERAS[4:]),
        gelu(*KERAS[:4], node("Mul", "x two", "h"), KERAS[5]),
    ],
    ids=["erf is seen", "another argument", "two less erf", "twice x"],
)
def test_what_is_no_gelu_stays(proto: onnx.ModelProto) -> None:
    assert tried("gelu", proto).count == 0


def test_constants_that_give_a_gelu_more_dimensions_stay() -> None:
    proto = gelu(*KERAS)
    for i, held in enumerate(proto.graph.initializer):
        widened = onnx.numpy_helper.to_array(held).reshape(1, 1, 1, 1, 1)
        proto.graph.initializer[i].CopyFrom(onnx.numpy_helper.from_array(widened, held.name))
    del proto.graph.value_info[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    assert tried("gelu", onnx.shape_inference.infer_shapes(proto)).count == 0


# Layer normalization


def normalization(axes: list[int], *, shift: tuple[int, ...] | None = None, opset: int = 17):
    size = (1, 4, 6, 6)[axes[0]]
    along = [1, 1, 1, 1]
    along[axes[0]] = size
    nodes = [
        node("ReduceMean", "x", "mean", axes=axes),
        node("Sub", "x mean", "away"),
        node("Mul", "away away", "square"),
        node("ReduceMean", "square", "variance", axes=axes),
        node("Add", "variance epsilon", "safe"),
        node("Sqrt", "safe", "root"),
        node("Reciprocal", "root", "inverse"),
        node("Mul", "inverse scale", "r"),
        node("Neg", "mean", "minus"),
        node("Mul", "minus r", "moved"),
        node("Add", "moved shift", "rest"),
        node("Mul", "x r", "scaled"),
        node("Add", "scaled rest", "y"),
    ]
    constants = {
        "scale": random(*along),
        "shift": random(*(shift or along)),
        "epsilon": np.float32(1e-3),
    }
    return graph(nodes, constants, opset=opset)


@pytest.mark.parametrize(("axes", "transposes"), [([3], 0), ([-1], 0), ([1], 2)])
def test_a_layer_normalization_gets_its_name(axes: list[int], transposes: int) -> None:
    trial = tried("layer_norm", normalization(axes))
    assert trial.count == 1
    assert trial.operators == {"LayerNormalization": 1} | (
        {"Transpose": transposes} if transposes else {}
    )
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    "proto",
    [
        normalization([2, 3]),
        normalization([3], shift=(1, 4, 1, 1)),
        normalization([3], opset=16),
    ],
    ids=["two axes", "shifted along another axis", "before there was one"],
)
def test_another_normalization_stays(proto: onnx.ModelProto) -> None:
    assert tried("layer_norm", proto).count == 0


def test_a_square_beside_it_is_no_normalization() -> None:
    proto = normalization([3])
    del proto.graph.node[8:11]
    proto.graph.node.insert(8, node("Mul", "r r", "rest"))
    assert tried("layer_norm", proto).count == 0


# Matrix products


def product(bias: np.ndarray, shape: list[int], outputs: tuple[str, ...] = ("y",)):
    nodes = [
        node("MatMul", "x weight", "p"),
        node("Reshape", "p shape", "r"),
        node("Add", "r bias", "y"),
    ]
    constants = {"weight": random(6, 8), "shape": np.array(shape, np.int64), "bias": bias}
    return graph(nodes, constants, x=(12, 6), outputs=outputs)


def test_a_bias_behind_a_reshape_becomes_the_products_own() -> None:
    trial = tried("gemm", product(random(8), [3, 4, 8]))
    assert (trial.count, trial.operators) == (1, {"Gemm": 1, "Reshape": 1})
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    "proto",
    [
        product(random(4, 1), [3, 4, 8]),
        product(random(2), [4, 12, 2]),
        product(random(8), [3, 4, 8], outputs=("y", "p")),
    ],
    ids=["along another axis", "the last axis is cut", "the product is seen"],
)
def test_other_products_stay(proto: onnx.ModelProto) -> None:
    assert tried("gemm", proto).count == 0
