"""3×3 convolutions of few products."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepack.passes.int8_weights import Int8Weights
from edgepack.passes.tune.graph import Graph
from edgepack.passes.tune.step import Tune
from edgepack.passes.tune.winograd import convolve_bands
from edgepack.prove.engine import answers
from tests.models import run_step, wrap
from tests.passes.tune.trial import CLOSE, graph, node, random, tried

TURNED = {"MatMul": 1, "Conv": 3, "Transpose": 3, "Reshape": 7}


def kernel(outputs: int = 24, inputs: int = 16, *sizes: int) -> np.ndarray:
    return random(outputs, inputs, *(sizes or (3, 3))) / np.float32(3 * np.sqrt(inputs))


@pytest.mark.parametrize("pads", [[1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 1, 0], [2, 1, 3, 1]])
@pytest.mark.parametrize("rows", [32, 33, 34, 35])
def test_a_convolution_is_computed_in_bands_of_four_rows(rows: int, pads: list[int]) -> None:
    nodes = [node("Conv", "x kernel bias", "y", pads=pads)]
    constants = {"kernel": kernel(), "bias": random(24)}
    trial = tried("winograd", graph(nodes, constants, x=(1, 16, rows, 40)))
    made = rows + pads[0] + pads[2] - 2
    assert trial.count == 1
    assert trial.operators == TURNED | {"Pad": 1} | ({"Slice": 1} if made % 4 else {})
    assert trial.gap < CLOSE


@pytest.mark.parametrize("kind", ["Relu", "Clip"])
def test_a_clamp_stays_behind_a_convolution(kind: str) -> None:
    nodes = [node("Conv", "x kernel", "c", pads=[1] * 4)]
    nodes.append(node(kind, "c" if kind == "Relu" else "c low high", "y"))
    constants = {"kernel": kernel()}
    if kind == "Clip":
        constants |= {"low": np.float32(0), "high": np.float32(0.5)}
    trial = tried("winograd", graph(nodes, constants, x=(1, 16, 32, 32)))
    assert trial.operators == TURNED | {kind: 1}
    taken = {name for n in trial.proto.graph.node if n.op_type == kind for name in n.input[:1]}
    makers = {n.op_type for n in trial.proto.graph.node if n.output[0] in taken}
    assert makers == {"Conv"}
    assert trial.gap < CLOSE


def test_a_clamp_that_is_not_alone_is_left_where_it_is() -> None:
    nodes = [node("Conv", "x kernel", "c", pads=[1] * 4), node("Relu", "c", "y")]
    proto = graph(nodes, {"kernel": kernel()}, x=(1, 16, 32, 32), outputs=("c", "y"))
    trial = tried("winograd", proto)
    assert (trial.count, trial.operators) == (1, TURNED | {"Relu": 1})
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("weight", "x", "attributes"),
    [
        (kernel(), (1, 16, 32, 32), {"strides": [2, 2]}),
        (kernel(), (1, 16, 32, 32), {"strides": [1, 2]}),
        (kernel(), (1, 16, 32, 32), {"dilations": [2, 2]}),
        (kernel(), (1, 32, 32, 32), {"group": 2}),
        (kernel(), (1, 16, 32, 32), {"auto_pad": "SAME_UPPER"}),
        (kernel(24, 16, 1, 3), (1, 16, 32, 32), {}),
        (kernel(24, 16, 5, 5), (1, 16, 32, 32), {}),
        (kernel(24, 16, 3), (1, 16, 64), {}),
        (kernel(), ("batch", 16, 32, 32), {}),
        (kernel(), (2, 16, 32, 32), {}),
        (kernel(16, 3), (1, 3, 96, 96), {}),
        (kernel(128, 128), (1, 128, 9, 9), {"pads": [1] * 4}),
    ],
    ids=[
        *("steps", "steps along rows", "dilated", "groups", "auto_pad", "1×3", "5×5", "1-D"),
        *("free size", "two images", "few channels", "few places"),
    ],
)
def test_other_convolutions_stay(
    weight: np.ndarray, x: tuple[int | str, ...], attributes: dict[str, object]
) -> None:
    nodes = [node("Conv", "x kernel", "y", **attributes)]
    trial = tried("winograd", graph(nodes, {"kernel": weight}, x=x))
    assert (trial.count, trial.operators) == (0, {"Conv": 1})


@pytest.mark.parametrize(("opset", "changed"), [(10, 0), (11, 1)])
def test_before_pads_could_be_inputs_convolutions_stay(opset: int, changed: int) -> None:
    nodes = [node("Conv", "x kernel bias", "y", pads=[1] * 4)]
    proto = graph(nodes, {"kernel": kernel(), "bias": random(24)}, x=(1, 16, 32, 32), opset=opset)
    assert tried("winograd", proto).count == changed


def test_a_kernel_that_is_computed_of_the_input_stays() -> None:
    nodes = [node("GlobalAveragePool", "x", "mean"), node("Mul", "kernel mean", "k")]
    nodes.append(node("Conv", "x k", "y"))
    constants = {"kernel": kernel()}
    assert tried("winograd", graph(nodes, constants, x=(1, 16, 32, 32))).count == 0


def test_quantized_weights_stay_as_small_and_answer_alike(tmp_path: Path) -> None:
    nodes = [node("Conv", "x kernel bias", "y", pads=[1] * 4)]
    proto = graph(nodes, {"kernel": kernel(), "bias": random(24)}, x=(1, 16, 32, 32))
    small = run_step(Int8Weights(), wrap(proto, tmp_path), tmp_path).model
    made = run_step(Tune(rewrites=("winograd",)), small, tmp_path)
    assert made.facts == {"winograd": 1}
    assert weight_bytes(made.model.path) - weight_bytes(small.path) < 3000
    feeds = [{"x": random(1, 16, 32, 32)}]
    (before,), (after,) = (answers(m.path, feeds, optimize=False) for m in (small, made.model))
    assert np.abs(before["y"] - after["y"]).max() < CLOSE * np.abs(before["y"]).max()


def weight_bytes(path: Path) -> int:
    return sum(len(i.raw_data) for i in onnx.load(path).graph.initializer)


def test_a_kernel_behind_thousands_of_nodes_is_looked_at_once() -> None:
    nodes = [node("GlobalAveragePool", "x", "k0")]
    nodes += [node("Add", f"k{i} k{i}", f"k{i + 1}") for i in range(2000)]
    nodes += [node("Mul", "kernel k2000", "k"), node("Conv", "x k", "y")]
    proto = graph(nodes, {"kernel": kernel()}, x=(1, 16, 32, 32))
    assert convolve_bands(Graph(proto, Path())) == 0
