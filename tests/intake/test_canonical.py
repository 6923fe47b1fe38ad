"""Names and order in a converted graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgepack.artifact import TensorSpec
from edgepack.intake.canonical import name_free_dims, number_names, set_edges
from tests.models import BOOL, FLOAT, INT64, conv_model, model, tensors, value


def node(
    kind: str, inputs: str, outputs: str, name: str = "", **attributes: object
) -> onnx.NodeProto:
    """A node whose inputs and outputs are words of a text."""
    return helper.make_node(kind, inputs.split(), outputs.split(), name, **attributes)


def run(proto: onnx.ModelProto, **feeds: np.ndarray) -> list[np.ndarray]:
    onnx.checker.check_model(proto, full_check=True)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feeds))


def edges(
    name: str, shape: tuple[int | str, ...] = (2,), dtype: str = "float32"
) -> list[TensorSpec]:
    return [TensorSpec(name=name, dtype=dtype, shape=shape)]


def give_edges(proto: onnx.ModelProto, inputs: list[TensorSpec], outputs: list[TensorSpec]) -> None:
    """`set_edges` by position."""
    set_edges(
        proto,
        [(v.name, s) for v, s in zip(proto.graph.input, inputs, strict=True)],
        [(v.name, s) for v, s in zip(proto.graph.output, outputs, strict=True)],
    )


def branching(counter: int, inner: str = "inner") -> onnx.ModelProto:
    """y = x·2 + x if sum(x) > 0, else x·2 − x; both branches see x·2 from outside. Names carry a `__counter`."""
    n = lambda name: f"{name}__{counter}"  # noqa: E731
    then = helper.make_graph(
        [node("Add", f"{n('twice')} x", n(inner), n("add"))],
        n("then"),
        [],
        [value(n(inner), FLOAT, [2])],
    )
    other = helper.make_graph(
        [node("Sub", f"{n('twice')} {n('copy')}", n(inner), n("sub"))],
        n("else"),
        [],
        [value(n(inner), FLOAT, [2])],
    )
    nodes = [
        node("Identity", "x", n("copy"), n("copy")),
        node("Mul", f"x {n('two')}", n("twice"), n("mul")),
        node("ReduceSum", "x", n("sum"), n("sum"), keepdims=0),
        node("Greater", f"{n('sum')} {n('zero')}", n("positive"), n("greater")),
        node("If", n("positive"), "y", n("if"), then_branch=then, else_branch=other),
    ]
    constants = tensors({n("two"): np.float32(2), n("zero"): np.float32(0)})
    return model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])], constants)


def looping() -> onnx.ModelProto:
    """y = x three times doubled, with x itself and `shift` added each time; the body sees both from outside."""
    body = helper.make_graph(
        [
            node("Add", "state state", "doubled"),
            node("Add", "doubled x", "more"),
            node("Add", "more shift", "next"),
            node("Identity", "going", "still"),
        ],
        "body",
        [value("i", INT64, []), value("going", BOOL, []), value("state", FLOAT, [2])],
        [value("still", BOOL, []), value("next", FLOAT, [2])],
    )
    nodes = [
        node("Identity", "offset", "shift"),
        node("Loop", "times yes x", "y", body=body),
    ]
    constants = tensors({"times": np.int64(3), "yes": np.bool_(True), "offset": np.float32([1, 0])})
    return model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])], constants)


# name_free_dims


def test_nameless_dimensions_get_names_and_named_ones_keep_theirs() -> None:
    proto = model(
        [node("Relu", "x", "y")],
        [value("x", FLOAT, ["unk__7", "height", "?", 3])],
        [value("y", FLOAT, ["unk__7", "height", "unk__8", 3])],
    )
    proto.graph.input[0].type.tensor_type.shape.dim[2].ClearField("dim_param")
    name_free_dims(proto)
    named = [
        [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (proto.graph.input[0], proto.graph.output[0])
    ]
    assert named == [["batch", "height", "x_dim2", 3], ["batch", "height", "y_dim2", 3]]


# set_edges


def test_edges_get_the_users_names_and_shapes() -> None:
    proto = conv_model()
    give_edges(proto, edges("face", (1, 8, 8, 1)), edges("emotion", (1, 10)))
    assert proto.graph.input[0].name == "face"
    shape = proto.graph.output[0].type.tensor_type.shape.dim
    assert (proto.graph.output[0].name, [d.dim_value for d in shape]) == ("emotion", [1, 10])
    (y,) = run(proto, face=np.ones((1, 8, 8, 1), np.float32))
    assert y.shape == (1, 10)


@pytest.mark.parametrize("name", ["relu", "kernel", "logits"])
def test_an_inner_tensor_of_an_edges_name_makes_way(name: str) -> None:
    feed = np.random.default_rng(0).random((1, 8, 8, 1)).astype(np.float32)
    (before,) = run(conv_model(), image=feed)
    proto = conv_model()
    give_edges(proto, edges(name, (1, 8, 8, 1)), edges("y", (1, 10)))
    (after,) = run(proto, **{name: feed})
    assert np.array_equal(before, after)


def test_swapped_edge_names_stay_apart() -> None:
    proto = model(
        [node("Sub", "a b", "y")],
        [value("a", FLOAT, [2]), value("b", FLOAT, [2])],
        [value("y", FLOAT, [2])],
    )
    give_edges(proto, [*edges("b"), *edges("a")], edges("y"))
    (y,) = run(proto, b=np.float32([5, 5]), a=np.float32([1, 1]))
    assert y.tolist() == [4.0, 4.0]


def test_a_branch_sees_the_renamed_input() -> None:
    x = np.float32([1, 2])
    (before,) = run(branching(1), x=x)
    proto = branching(1)
    give_edges(proto, edges("image"), edges("answer"))
    (after,) = run(proto, image=x)
    assert before.tolist() == after.tolist() == [3.0, 6.0]


@pytest.mark.parametrize("name", ["state", "going", "i", "doubled", "shift", "next"])
def test_a_loops_own_names_make_way_for_an_edges_name(name: str) -> None:
    x = np.float32([1, 2])
    (before,) = run(looping(), x=x)
    proto = looping()
    give_edges(proto, edges(name), edges("y"))
    (after,) = run(proto, **{name: x})
    assert before.tolist() == after.tolist() == [22.0, 30.0]


def test_an_input_that_was_dropped_comes_back_and_a_value_may_be_two_outputs() -> None:
    proto = model([node("Relu", "x", "y")], [value("x", FLOAT, [2])], [value("y", FLOAT, [2])])
    (x,), (unused,) = edges("x"), edges("unused")
    (first,), (second,), (third,) = edges("first"), edges("second"), edges("third")
    set_edges(proto, [("x", x), ("gone", unused)], [("y", first), ("y", second), ("x", third)])
    answers = run(proto, x=np.float32([-1, 2]), unused=np.float32([0, 0]))
    assert [a.tolist() for a in answers] == [[0, 2], [0, 2], [-1, 2]]
    assert [o.name for o in proto.graph.output] == ["first", "second", "third"]


# number_names


def counting(first_is_the_copy: bool) -> onnx.ModelProto:
    """y = x + 3 ones, and the same again, where one of the body's two equal outputs is a copy of the other."""
    outputs = ["copy", "sum"] if first_is_the_copy else ["sum", "copy"]
    body = helper.make_graph(
        [
            node("Add", "a one", "sum"),
            node("Identity", "sum", "copy"),
            node("Identity", "going", "still"),
        ],
        "body",
        [value("i", INT64, []), value("going", BOOL, []), *(value(n, FLOAT, [2]) for n in "ab")],
        [value("still", BOOL, []), *(value(n, FLOAT, [2]) for n in outputs)],
        [*tensors({"one": np.float32([1, 1])})],
    )
    nodes = [node("Loop", "times yes x x", "y z", body=body)]
    constants = tensors({"times": np.int64(3), "yes": np.bool_(True)})
    edge = [value("x", FLOAT, [2])], [value("y", FLOAT, [2]), value("z", FLOAT, [2])]
    return model(nodes, *edge, constants)


def test_which_of_two_equal_outputs_of_a_body_is_the_copy_does_not_matter() -> None:
    first, second = counting(True), counting(False)
    number_names(first)
    number_names(second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )
    y, z = run(first, x=np.float32([1, 2]))
    assert y.tolist() == z.tolist() == [4, 5]


def test_a_bodys_output_that_is_its_input_keeps_the_answers() -> None:
    proto = looping()
    body = proto.graph.node[1].attribute[0].g
    del body.node[3]
    body.output[0].name = "going"
    number_names(proto)
    (y,) = run(proto, x=np.float32([1, 2]))
    assert y.tolist() == [22.0, 30.0]


def with_counter(counter: int) -> onnx.ModelProto:
    n = lambda name: f"{name}__{counter}"  # noqa: E731
    nodes = [
        node("Relu", "x", n("model/relu"), n("model/relu")),
        node("Add", f"{n('model/relu')} {n('const')}", f"model/relu__{counter + 7}", n("add")),
        node("Mul", f"model/relu__{counter + 7} {n('const')}", "y", f"add__{counter + 9}"),
    ]
    constants = tensors({n("const"): np.float32([1, 2])})
    return model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])], constants)


def test_two_graphs_that_differ_in_counters_become_the_same_bytes() -> None:
    first, second = with_counter(3), with_counter(41)
    assert first.SerializeToString() != second.SerializeToString()
    number_names(first)
    number_names(second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_two_graphs_whose_branches_differ_in_counters_become_the_same_bytes() -> None:
    first, second = branching(3), branching(41)
    number_names(first)
    number_names(second)
    assert first.SerializeToString(deterministic=True) == second.SerializeToString(
        deterministic=True
    )


def test_nodes_and_values_are_named_by_their_place() -> None:
    proto = with_counter(3)
    number_names(proto)
    assert [n.name for n in proto.graph.node] == ["Relu_0", "Add_0", "Mul_0"]
    assert [list(n.output) for n in proto.graph.node] == [["Relu_0:0"], ["Add_0:0"], ["y"]]
    assert [i.name for i in proto.graph.initializer] == ["Add_0.1"]
    assert list(proto.graph.node[2].input) == ["Add_0:0", "Add_0.1"]


def diamond(order: tuple[int, ...]) -> onnx.ModelProto:
    """y = relu(x) + tanh(x), z = |x|, and a node that nobody needs; nodes stand in the given order."""
    nodes = [
        node("Relu", "x", "a"),
        node("Tanh", "x", "b"),
        node("Abs", "x", "z"),
        node("Exp", "x", "unused"),
        node("Add", "a b", "y"),
    ]
    edge = [value("x", FLOAT, [2])], [value("y", FLOAT, [2]), value("z", FLOAT, [2])]
    return model([nodes[i] for i in order], *edge)


def test_the_order_of_independent_nodes_does_not_matter() -> None:
    results = set()
    for order in ((0, 1, 2, 3, 4), (2, 1, 0, 4, 3), (3, 1, 0, 4, 2)):
        proto = diamond(order)
        number_names(proto)
        results.add(proto.SerializeToString(deterministic=True))
        assert [n.op_type for n in proto.graph.node] == ["Relu", "Tanh", "Add", "Abs"]
    assert len(results) == 1


def test_nodes_whose_first_output_is_left_out_stay() -> None:
    weights = np.random.default_rng(0).normal(size=(2, 1, 2, 2)).astype(np.float32)
    constants = tensors({f"{k}{i}": weights[j] for j, k in enumerate("wr") for i in (1, 2)})
    nodes = [
        helper.make_node("RNN", ["x", "w1", "r1"], ["", "h1"], hidden_size=2),
        helper.make_node("RNN", ["x", "w2", "r2"], ["", "h2"], hidden_size=2, activations=["Relu"]),
        node("Sub", "h1 h2", "y"),
    ]
    edge = [value("x", FLOAT, [3, 1, 2])], [value("y", FLOAT, [1, 1, 2])]
    proto = model(nodes, *edge, constants)
    x = np.random.default_rng(1).normal(size=(3, 1, 2)).astype(np.float32)
    (before,) = run(proto, x=x)
    number_names(proto)
    (after,) = run(proto, x=x)
    assert np.array_equal(before, after)


def test_numbering_keeps_a_loops_answers() -> None:
    x = np.float32([1, 2])
    proto = looping()
    number_names(proto)
    (after,) = run(proto, x=x)
    assert after.tolist() == [22.0, 30.0]


def test_numbering_twice_changes_nothing_more() -> None:
    proto = with_counter(3)
    number_names(proto)
    once = proto.SerializeToString(deterministic=True)
    number_names(proto)
    assert proto.SerializeToString(deterministic=True) == once


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("inner", ["inner__99", "twice__99", "twice", "copy"])
def test_numbering_keeps_the_answers_where_branches_look_outside(sign: int, inner: str) -> None:
    x = np.float32([1, 2]) * sign
    (before,) = run(branching(1), x=x)
    proto = branching(1)
    # A tensor inside a branch that differs from an outer one only by its counter, or has no counter at all.
    for branch in (a.g for n in proto.graph.node if n.op_type == "If" for a in n.attribute):
        branch.node[0].output[0] = branch.output[0].name = inner
    number_names(proto)
    (after,) = run(proto, x=x)
    assert before.tolist() == after.tolist()


def test_an_inner_name_that_becomes_an_edges_name_is_told_apart() -> None:
    nodes = [node("Relu", "x", "y__4"), node("Add", "y__4 x", "y")]
    proto = model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])])
    number_names(proto)
    (y,) = run(proto, x=np.float32([1, 2]))
    assert y.tolist() == [2.0, 4.0]
