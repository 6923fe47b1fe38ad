"""Nodes with graphs inside them: what they take, and the order they go in."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from edgepack.topology import all_nodes, constants, fresh, in_order, taken, value_names
from tests.models import BOOL, FLOAT, INT64, tensors, value


def branching(*, backwards: bool = False) -> onnx.NodeProto:
    """An If, both of whose branches are −(outer + own), where `own` is a constant."""
    nodes = [
        helper.make_node("Add", ["outer", "own"], ["sum"], "add"),
        helper.make_node("Neg", ["sum"], ["given"], "turn"),
    ]
    branch = helper.make_graph(
        nodes[::-1] if backwards else nodes,
        "branch",
        [],
        [value("given", FLOAT, None)],
        tensors({"own": np.ones(1, np.float32)}),
    )
    return helper.make_node("If", ["c"], ["y"], "if", then_branch=branch, else_branch=branch)


@pytest.mark.parametrize("backwards", [False, True])
def test_what_subgraphs_take_from_outside_is_taken_as_often_as_they_do(backwards: bool) -> None:
    assert list(taken(branching(backwards=backwards))) == ["c", "outer", "outer"]


def test_what_a_body_is_given_and_passes_on_is_its_own() -> None:
    body = helper.make_graph(
        [branching()],
        "body",
        [value("i", INT64, []), value("go", BOOL, []), value("outer", FLOAT, [1])],
        [value(name, FLOAT, None) for name in ("go", "y", "passed")],
    )
    node = helper.make_node("Loop", ["n", "", "start"], ["end", "all"], "loop", body=body)
    assert list(taken(node)) == ["n", "start", "c", "passed"]
    assert [n.name for n in all_nodes(helper.make_graph([node], "g", [], []))] == [
        *("loop", "if", "add", "turn", "add", "turn")
    ]


def test_what_is_computed_of_constants_alone_is_constant_and_what_is_random_is_not() -> None:
    nodes = [
        helper.make_node("Constant", [], ["c"], value_float=1.0),
        helper.make_node("RandomNormal", [], ["noise"], shape=[1]),
        helper.make_node("Neg", ["outer"], ["turned"]),
        branching(),
        helper.make_node("Dropout", ["y"], ["", "mask"]),
        helper.make_node("Add", ["y", "noise"], ["end"]),
        helper.make_node("Add", ["y", "x"], ["other"]),
    ]
    assert constants(nodes, ["outer"]) == {"outer", "c", "turned", "y", "mask"}


def test_a_fresh_name_is_none_that_a_subgraph_has() -> None:
    graph = helper.make_graph([branching()], "g", [value("x", FLOAT, [1])], [])
    names = value_names(graph)
    assert names == {"c", "y", "x", "outer", "own", "sum", "given"}
    assert [fresh("own", names), fresh("own", names), fresh("z", names)] == ["own_1", "own_2", "z"]


def test_a_node_comes_after_what_its_subgraphs_take() -> None:
    makers = [
        helper.make_node("Relu", ["x"], ["outer"], "outer"),
        helper.make_node("Relu", ["y"], ["sum"], "has a name that stands in the branch too"),
    ]
    ordered = in_order([branching(), *makers])
    assert [n.op_type for n in ordered] == ["Relu", "If", "Relu"]


def test_nodes_in_a_circle_are_named() -> None:
    circle = [helper.make_node("Neg", ["outer"], ["c"], "back"), branching()]
    circle.append(helper.make_node("Neg", ["y"], ["outer"], "on"))
    with pytest.raises(ValueError, match="needs itself"):
        in_order(circle)
