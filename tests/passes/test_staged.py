"""Models run in stages."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.errors import StepError
from edgepack.passes.staged import StagedRun
from tests.models import model, tensors, value

FEEDS = [{"x": np.full((1, 4), i, np.float32)} for i in range(1, 9)]


def chain() -> onnx.ModelProto:
    """y = −(2·(x + 1)) + x, with a constant that is made, not held."""
    nodes = [
        helper.make_node("Neg", ["minus one"], ["one"], "make"),
        helper.make_node("Add", ["x", "one"], ["a"], "add"),
        helper.make_node("Mul", ["a", "two"], ["b"], "double"),
        helper.make_node("Neg", ["b"], ["c"], "turn"),
        helper.make_node("Add", ["c", "x"], ["y"], "last"),
    ]
    arrays = {"minus one": -np.ones(1, np.float32), "two": np.full(1, 2, np.float32)}
    edges = [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, [1, 4])]
    return model(nodes, *edges, tensors(arrays))


def test_stages_give_what_the_whole_model_gives() -> None:
    run = StagedRun(chain(), FEEDS)
    seen = {name: [float(v[0, 0]) for v in values] for name, values in run.stages({"add", "last"})}
    assert list(seen) == ["add", "last"]
    assert seen["add"] == [x + 1 for x in range(1, 9)]
    assert seen["last"] == [-2 * (x + 1) + x for x in range(1, 9)]


def test_later_stages_take_what_was_changed() -> None:
    for name, values in StagedRun(chain(), FEEDS[:1]).stages({"double", "last"}):
        if name == "double":
            values[0] += 100
    assert float(values[0][0, 0]) == -(2 * 2 + 100) + 1


def test_a_node_that_nobody_ends_with_runs_no_further_than_needed() -> None:
    proto = chain()
    proto.graph.node.append(helper.make_node("Reshape", ["y", "x"], ["wrong"], "broken"))
    assert [name for name, _ in StagedRun(proto, FEEDS).stages({"last"})] == ["last"]


def test_beyond_its_budget_it_keeps_samples_evenly_spread() -> None:
    # Between the stages a sample's x and b are held, 16 bytes each.
    run = StagedRun(chain(), FEEDS, budget_bytes=2 * 32)
    assert [len(values) for _, values in run.stages({"double"})] == [2]
    assert run.samples == [0, 4]


def test_one_sample_is_always_run() -> None:
    run = StagedRun(chain(), FEEDS, budget_bytes=1)
    assert [len(values) for _, values in run.stages({"last"})] == [1]


def test_a_stage_that_cannot_run_is_named() -> None:
    proto = chain()
    proto.graph.node[1].op_type = "Nothing"
    with pytest.raises(StepError, match="the part that ends in last"):
        list(StagedRun(proto, FEEDS).stages({"last"}))


def test_what_is_no_tensor_goes_to_no_later_stage() -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["pair"], "pack"),
        helper.make_node("Neg", ["x"], ["n"], "turn"),
        helper.make_node("ConcatFromSequence", ["pair"], ["y"], "unpack", axis=0),
    ]
    edges = [value("x", TensorProto.FLOAT, [1, 4])], [value("y", TensorProto.FLOAT, [2, 4])]
    with pytest.raises(StepError, match="pair is seq"):
        list(StagedRun(model(nodes, *edges, []), FEEDS).stages({"turn", "unpack"}))
