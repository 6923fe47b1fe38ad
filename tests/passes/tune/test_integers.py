"""Rewrites for integer kernels: columns as channels, channels of zeros, dense kernels, transposed convolutions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgepack.passes.int8 import Int8
from edgepack.passes.tune.step import Tune
from tests.models import run_step, wrap
from tests.passes.tune.trial import CLOSE, graph, node, random, tried

VIEWS = {"Transpose": 4, "Reshape": 2}


def conv(
    kernel: np.ndarray, x: tuple[int, ...], *, clamp: str = "", **attributes: object
) -> onnx.ModelProto:
    """One Conv with a bias, and perhaps an activation."""
    nodes = [node("Conv", "x kernel bias", "c" if clamp else "y", **attributes)]
    if clamp:
        nodes.append(node(clamp, "c", "y"))
    return graph(nodes, {"kernel": kernel, "bias": random(len(kernel))}, x=x)


# Columns as channels


@pytest.mark.parametrize("clamp", ["", "Relu"])
@pytest.mark.parametrize(
    ("kernel", "x", "attributes"),
    [
        ((24, 3, 3, 3), (1, 3, 16, 16), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ((24, 3, 3, 3), (1, 3, 16, 16), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((32, 3, 5, 5), (1, 3, 24, 16), {"strides": [2, 2], "pads": [1, 1, 2, 2]}),
        ((16, 3, 7, 7), (2, 3, 16, 32), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
        ((8, 8, 3, 3), (1, 8, 9, 12), {"pads": [1, 1, 1, 1]}),
        ((8, 1, 3, 3), (1, 1, 12, 12), {}),
        ((1, 8, 3, 3), (1, 8, 6, 32), {"pads": [1, 1, 1, 1]}),
        ((2, 16, 1, 1), (1, 16, 8, 8), {}),
        ((24, 3, 3, 3), (1, 3, 15, 17), {"strides": [2, 2]}),
        ((8, 4, 1, 4), (1, 4, 3, 13), {"pads": [0, 2, 0, 3]}),
    ],
    ids=lambda v: "×".join(map(str, v)) if isinstance(v, tuple) else None,
)
def test_a_convolution_of_few_channels_makes_several_columns_at_once(
    kernel: tuple[int, ...], x: tuple[int, ...], attributes: dict[str, object], clamp: str
) -> None:
    trial = tried("columns", conv(random(*kernel), x, clamp=clamp, **attributes))
    assert trial.count == 1
    assert trial.gap < CLOSE
    assert trial.operators["Conv"] == 1
    (merged,) = (n for n in trial.proto.graph.node if n.op_type == "Conv")
    made = next(i for i in trial.proto.graph.initializer if i.name == merged.input[1])
    assert made.dims[0] >= 16
    assert made.dims[1] % 4 == 0


@pytest.mark.parametrize(
    ("kernel", "x", "attributes"),
    [
        ((16, 4, 3, 3), (1, 4, 8, 8), {}),
        ((8, 4, 3, 3), (1, 4, 3, 20), {"dilations": [1, 2]}),
        ((8, 1, 3, 3), (1, 8, 8, 8), {"group": 8}),
        ((8, 3, 1, 1), (1, 3, 1, 1), {}),
        ((64, 3, 3, 3), (1, 3, 16, 16), {"pads": [1, 1, 1, 1]}),
        ((8, 4, 3, 3), ("batch", 4, 8, 8), {}),
    ],
    ids=["enough", "dilated", "depthwise", "one place", "too much work", "free size"],
)
def test_other_convolutions_keep_their_columns(
    kernel: tuple[int, ...], x: tuple[int, ...], attributes: dict[str, object]
) -> None:
    assert tried("columns", conv(random(*kernel), x, **attributes)).count == 0


def test_merged_columns_cost_an_integer_graph_no_transposition(tmp_path: Path) -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 3, 1, 2]),
        node("Conv", "t first", "a", strides=[2, 2], pads=[0, 0, 1, 1]),
        node("Relu", "a", "b"),
        node("Conv", "b second", "c", pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", "c", "y"),
    ]
    constants = {"first": random(8, 3, 3, 3), "second": random(24, 8, 3, 3)}
    start = wrap(graph(nodes, constants, x=(1, 32, 32, 3)), tmp_path)
    tuned = run_step(Tune(rewrites=("columns", "transposes", "views")), start, tmp_path)
    data = {"x": random(4, 32, 32, 3)}
    step = Int8(activations="uint8", weights="int8", reduce_range=True)
    quantized = run_step(step, tuned.model, tmp_path, data)
    ran = _operators(quantized.model.path, tmp_path / "ran.onnx")
    assert tuned.facts["columns"] == 1
    assert ran["QLinearConv"] == 2
    assert ran["Transpose"] <= 1, "the one that ends at the pool"


def _operators(model: Path, written: Path) -> Counter[str]:
    """Those of the graph that onnxruntime runs."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath = str(written)
    options.log_severity_level = 3
    ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(written).graph.node)


# Channels of zeros

DEEP = [
    node("Conv", "x wide", "a"),
    node("Relu", "a", "b"),
    node("Conv", "b deep bias", "c", group=12, pads=[1] * 4),
    node("PRelu", "c slopes", "d"),
    node("Mul", "d scale", "e"),
    node("Add", "b e", "f"),
    node("Conv", "f narrow", "y"),
]
DEEP_CONSTANTS = {
    "wide": random(12, 4, 1, 1),
    "deep": random(12, 1, 3, 3),
    "bias": random(12),
    "slopes": random(12, 1, 1),
    "scale": random(12, 1, 1),
    "narrow": random(3, 12, 1, 1),
}


def test_channels_about_depthwise_convolutions_fill_vectors_of_sixteen() -> None:
    trial = tried("lanes", graph(DEEP, DEEP_CONSTANTS))
    assert trial.count == 1
    assert trial.operators == Counter(n.op_type for n in DEEP)
    assert trial.gap == 0
    sizes = {i.name.split("_")[0]: list(i.dims) for i in trial.proto.graph.initializer}
    assert sizes["wide"] == [16, 4, 1, 1]
    assert sizes["deep"] == [16, 1, 3, 3]
    assert sizes["narrow"] == [3, 16, 1, 1]


def test_a_gate_by_channel_is_widened_with_what_it_gates() -> None:
    nodes = [
        node("Conv", "x wide", "a"),
        node("Conv", "a deep", "b", group=12),
        node("GlobalAveragePool", "b", "p"),
        node("Conv", "p squeeze", "q"),
        node("Sigmoid", "q", "s"),
        node("Mul", "b s", "g"),
        node("Conv", "g narrow", "y"),
    ]
    constants = {**DEEP_CONSTANTS, "squeeze": random(12, 12, 1, 1)}
    trial = tried("lanes", graph(nodes, constants))
    assert (trial.count, trial.gap) == (1, 0)


@pytest.mark.parametrize(
    ("nodes", "outputs"),
    [
        (DEEP, ("y", "d")),
        ([DEEP[0], DEEP[1], DEEP[2], node("Reshape", "c shape", "y")], ("y",)),
        ([node("Conv", "x small", "y", group=4)], ("y",)),
        ([*DEEP[:3], node("Concat", "b c", "d", axis=1), node("Conv", "d both", "y")], ("y",)),
    ],
    ids=["an output", "reshaped", "nothing makes them", "side by side"],
)
def test_channels_that_others_see_stay(
    nodes: list[onnx.NodeProto], outputs: tuple[str, ...]
) -> None:
    constants = {
        **DEEP_CONSTANTS,
        "shape": np.array([1, -1], np.int64),
        "small": random(4, 1, 3, 3),
        "both": random(3, 24, 1, 1),
    }
    assert tried("lanes", graph(nodes, constants, outputs=outputs)).count == 0


@pytest.mark.parametrize(("channels", "changed"), [(6, 1), (8, 1), (18, 1), (20, 0), (24, 0)])
def test_a_float_graph_gets_channels_only_where_its_blocked_layout_leaves_convolutions_out(
    channels: int, changed: int
) -> None:
    nodes = [node("Conv", "x wide", "a"), node("Conv", "a deep", "b", group=channels)]
    nodes.append(node("Conv", "b narrow", "y"))
    constants = {
        "wide": random(channels, 4, 1, 1),
        "deep": random(channels, 1, 3, 3),
        "narrow": random(3, channels, 1, 1),
    }
    trial = tried("blocks", graph(nodes, constants))
    assert (trial.count, trial.gap) == (changed, 0)


def test_a_float_graph_gets_whole_blocks_about_a_pool() -> None:
    nodes = [
        node("Conv", "x wide", "a"),
        node("MaxPool", "a", "b", kernel_shape=[2, 2]),
        node("Conv", "b narrow", "y"),
    ]
    constants = {"wide": random(20, 4, 1, 1), "narrow": random(3, 20, 1, 1)}
    trial = tried("blocks", graph(nodes, constants))
    assert (trial.count, trial.gap) == (1, 0)


@pytest.mark.parametrize("rewrite", ["blocks", "lanes"])
def test_places_that_a_pool_counts_over_all_channels_stay(rewrite: str) -> None:
    pool = helper.make_node("MaxPool", ["c"], ["m", "places"], kernel_shape=[2, 2])
    nodes = [*DEEP[:3], pool, node("Conv", "m narrow", "y")]
    proto = graph(nodes, DEEP_CONSTANTS, x=(2, 4, 6, 6))
    proto.graph.output.append(helper.make_tensor_value_info("places", onnx.TensorProto.INT64, None))
    assert tried(rewrite, onnx.shape_inference.infer_shapes(proto)).count == 0


@pytest.mark.parametrize("x", [(), (7,)])
def test_numbers_without_channels_stay(x: tuple[int, ...]) -> None:
    proto = graph([node("Add", "x one", "y")], {"one": np.float32(1)}, x=x)
    assert tried("blocks", proto).count == 0


def test_channels_are_filled_through_an_enlargement() -> None:
    nodes = [
        *DEEP[:3],
        node("Resize", "c  scales".replace("  ", " "), "r", mode="linear"),
        node("Conv", "r narrow", "y"),
    ]
    nodes[3].input.insert(1, "")
    constants = {**DEEP_CONSTANTS, "scales": np.array([1, 1, 2, 2], np.float32)}
    trial = tried("lanes", graph(nodes, constants))
    assert (trial.count, trial.gap) == (1, 0)


def test_whole_vectors_stay() -> None:
    nodes = [node("Conv", "x wide", "a"), node("Conv", "a deep", "b", group=16)]
    nodes.append(node("Conv", "b narrow", "y"))
    constants = {
        "wide": random(16, 4, 1, 1),
        "deep": random(16, 1, 3, 3),
        "narrow": random(3, 16, 1, 1),
    }
    assert tried("lanes", graph(nodes, constants)).count == 0


# Gates


def gated(order: str = "x gate", side: int = 160) -> onnx.ModelProto:
    nodes = [
        node("GlobalAveragePool", "x", "p"),
        node("Conv", "p kernel", "s"),
        node("Sigmoid", "s", "gate"),
        node("Mul", order, "y"),
    ]
    return graph(nodes, {"kernel": random(4, 4, 1, 1)}, x=(2, 4, side, side))


@pytest.mark.parametrize("order", ["x gate", "gate x"])
def test_a_gate_works_on_rows_of_several_columns(order: str) -> None:
    trial = tried("gates", gated(order))
    assert (trial.count, trial.gap) == (1, 0)
    (concat,) = (n for n in trial.proto.graph.node if n.op_type == "Concat")
    assert len(concat.input) == 32


@pytest.mark.parametrize("side", [161, 16], ids=["two does not divide them", "few"])
def test_other_columns_stay(side: int) -> None:
    assert tried("gates", gated(side=side)).count == 0


def test_products_that_are_no_gates_stay() -> None:
    nodes = [node("Mul", "x x", "a"), node("Mul", "a scale", "y")]
    assert tried("gates", graph(nodes, {"scale": random(1, 4, 1, 1)})).count == 0


# Dense kernels


@pytest.mark.parametrize("bias", [True, False])
def test_a_depthwise_and_a_pointwise_convolution_become_one(bias: bool) -> None:
    nodes = [
        node("Conv", "x deep first" if bias else "x deep", "a", group=4, pads=[1, 1, 0, 2]),
        node("Conv", "a point last" if bias else "a point", "y"),
    ]
    constants = {
        "deep": random(4, 1, 3, 3),
        "first": random(4),
        "point": random(6, 4, 1, 1),
        "last": random(6),
    }
    trial = tried("separable", graph(nodes, constants))
    assert (trial.count, trial.operators) == (1, {"Conv": 1})
    assert trial.gap < CLOSE


def test_a_depthwise_convolution_of_few_channels_becomes_dense() -> None:
    nodes = [node("Conv", "x deep", "a", group=4, strides=[2, 2]), node("Relu", "a", "y")]
    trial = tried("separable", graph(nodes, {"deep": random(4, 1, 3, 3)}))
    assert (trial.count, trial.operators) == (1, {"Conv": 1, "Relu": 1})
    assert trial.gap < CLOSE


@pytest.mark.parametrize("channels", [12, 16])
def test_a_depthwise_convolution_of_more_channels_stays(channels: int) -> None:
    nodes = [node("Conv", "x deep", "y", group=channels)]
    proto = graph(nodes, {"deep": random(channels, 1, 3, 3)}, x=(1, channels, 6, 6))
    assert tried("separable", proto).count == 0


# Transposed convolutions


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        ((4, 5, 3, 3), {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ((4, 5, 3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]}),
        ((4, 3, 2, 2), {"strides": [2, 2]}),
        ((4, 3, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((4, 2, 5, 3), {"strides": [3, 1], "pads": [1, 1, 1, 1]}),
        ((4, 2, 1, 1), {"strides": [2, 2], "output_padding": [1, 1]}),
    ],
    ids=lambda v: "×".join(map(str, v)) if isinstance(v, tuple) else None,
)
def test_a_transposed_convolution_becomes_a_plain_one(
    kernel: tuple[int, ...], attributes: dict[str, object], bias: bool
) -> None:
    inputs = "x kernel bias" if bias else "x kernel"
    nodes = [node("ConvTranspose", inputs, "y", **attributes)]
    constants = {"kernel": random(*kernel), "bias": random(kernel[1])}
    trial = tried("deconv", graph(nodes, constants, x=(1, 4, 6, 7)))
    assert trial.count == 1
    assert "ConvTranspose" not in trial.operators
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    "attributes",
    [
        {"strides": [2, 2], "pads": [0, 0, 0, 0]},
        {"strides": [1, 1]},
        {"strides": [2, 2], "group": 2},
        {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    ],
    ids=["odd sizes", "no steps", "groups", "automatic pads"],
)
def test_other_transposed_convolutions_stay(attributes: dict[str, object]) -> None:
    nodes = [node("ConvTranspose", "x kernel", "y", **attributes)]
    assert tried("deconv", graph(nodes, {"kernel": random(4, 5, 3, 3)})).count == 0
