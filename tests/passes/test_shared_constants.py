"""Constants that several quantized operators take."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.passes.int8 import Int8
from edgepack.passes.shared_constants import give_each_its_own
from tests.models import FLOAT, answers_of, model, run_step, tensors, value, wrap


def product_chain(count: int, side: int) -> onnx.ModelProto:
    """x [1, side] times the same weight, `count` times, a ReLU after each."""
    rng = np.random.default_rng(0)
    weight = (rng.normal(size=(side, side)) / np.sqrt(side)).astype(np.float32)
    nodes, x = [], "x"
    for i in range(count):
        nodes.append(helper.make_node("MatMul", [x, "w"], [f"m{i}"], f"product{i}"))
        nodes.append(helper.make_node("Relu", [f"m{i}"], [f"r{i}"], f"relu{i}"))
        x = f"r{i}"
    shape = [1, side]
    return model(
        nodes, [value("x", FLOAT, shape)], [value(x, FLOAT, shape)], tensors({"w": weight})
    )


def samples(side: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(20, side)).astype(np.float32)


@pytest.mark.parametrize("weight_pairs", [False, True])
def test_two_products_with_one_weight_open_in_int8(tmp_path: Path, weight_pairs: bool) -> None:
    start = wrap(product_chain(2, 16), tmp_path)
    made = run_step(Int8(weight_pairs=weight_pairs), start, tmp_path, samples(16)).model
    x = samples(16)[:1]
    before, after = (answers_of(m, x=x)["r1"] for m in (start, made))
    assert np.allclose(before, after, atol=0.1)


def test_a_scalar_that_many_operators_take_is_copied(tmp_path: Path) -> None:
    """As in hard-swish, x · clip(x + 3, 0, 6) / 6."""
    names = ["x", *(f"y{i}" for i in range(8))]
    nodes = [helper.make_node("Add", [a, "three"], [b], f"add_{b}") for a, b in pairwise(names)]
    three = tensors({"three": np.array(3.0, np.float32)})
    proto = model(nodes, [value("x", FLOAT, [1, 4])], [value("y7", FLOAT, [1, 4])], three)
    made = run_step(Int8(), wrap(proto, tmp_path), tmp_path, samples(4)).model
    assert np.allclose(answers_of(made, x=np.zeros((1, 4), np.float32))["y7"], 24, atol=0.5)


def test_a_heavy_weight_with_many_takers_stays_one_and_in_float(tmp_path: Path) -> None:
    proto = product_chain(5, 160)
    assert give_each_its_own(proto, ["MatMul"]) == tuple(f"product{i}" for i in range(5))
    assert [i.name for i in proto.graph.initializer] == ["w"]
    own = numpy_helper.from_array(np.ones((160, 1), np.float32), "own")
    proto.graph.initializer.append(own)
    proto.graph.node.append(helper.make_node("MatMul", ["r4", "own"], ["y"], "last"))
    proto.graph.output[0].CopyFrom(value("y", FLOAT, [1, 1]))
    made = run_step(Int8(), wrap(proto, tmp_path), tmp_path, samples(160)).model
    kinds = {i.name: i.data_type for i in onnx.load(made.path).graph.initializer}
    assert (kinds["w"], kinds["own_quantized"]) == (TensorProto.FLOAT, TensorProto.INT8)


def test_copies_take_names_that_nobody_has() -> None:
    proto = product_chain(3, 4)
    proto.graph.node[1].output[0] = proto.graph.node[2].input[0] = "w/1"
    assert give_each_its_own(proto, ["MatMul"]) == ()
    assert [i.name for i in proto.graph.initializer] == ["w", "w/2", "w/3"]


def test_operators_that_are_not_quantized_go_on_sharing() -> None:
    proto = product_chain(3, 4)
    assert give_each_its_own(proto, ["Conv"]) == ()
    assert len(proto.graph.initializer) == 1
