"""The graph as rules see it: types, shapes, constants, who makes and who takes what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack import onnxfile
from edgepack.legality.graph import GraphView
from edgepack.legality.pairs import in_pairs, quantized
from tests.legality.graphs import one_operator, quantized_conv, view
from tests.models import FLOAT, model, value


def test_shapes_are_known_behind_onnxruntimes_own_operators() -> None:
    proto = one_operator("FastGelu", {"x": [4, 8]}, None, domain="com.microsoft")
    proto.graph.node.append(helper.make_node("Transpose", ["out"], ["end"], "transpose"))
    proto.graph.output[0].CopyFrom(value("end", FLOAT, None))
    graph = view(proto)
    assert (graph.shape("out"), graph.dtype("out")) == ((4, 8), "float32")


def test_a_shape_that_nobody_can_infer_is_unknown_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    proto = one_operator("Mystery", {"x": [4]}, None, domain="acme")
    proto.graph.node.append(helper.make_node("Relu", ["out"], ["end"], "relu"))
    proto.graph.output[0].CopyFrom(value("end", FLOAT, None))
    graph = view(proto, tmp_path)
    assert (graph.shape("out"), graph.dtype("out")) == (None, None)
    assert list(tmp_path.iterdir()) == []


def test_constants_are_those_of_nodes_too_and_such_nodes_do_not_count() -> None:
    nodes = [
        helper.make_node("Constant", [], ["half"], "c1", value_float=0.5),
        helper.make_node("Constant", [], ["axes"], "c2", value_ints=[1, 2]),
        helper.make_node("Mul", ["x", "half"], ["out"], "mul"),
    ]
    graph = view(model(nodes, [value("x", FLOAT, [2])], [value("out", FLOAT, [2])]))
    assert [n.name for n in graph.nodes] == ["mul"]
    half, axes = graph.constant("half"), graph.constant("axes")
    assert half is not None
    assert axes is not None
    assert (float(half), axes.tolist()) == (0.5, [1, 2])
    assert graph.constant("x") is None
    assert graph.dtype("axes") == "int64"


def test_a_node_without_a_name_is_named_by_what_it_makes() -> None:
    proto = one_operator("Relu", {"x": [2]}, [2])
    proto.graph.node[0].name = ""
    assert view(proto).nodes[0].name == "(makes out)"


def test_what_a_body_takes_from_outside_is_taken_by_its_node() -> None:
    body = helper.make_graph(
        [helper.make_node("Neg", ["made"], ["y"], "neg")], "body", [], [value("y", FLOAT, [2])]
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["made"], "relu"),
        helper.make_node("If", ["c"], ["out"], "if", then_branch=body, else_branch=body),
    ]
    graph = view(
        model(
            nodes,
            [value("x", FLOAT, [2]), value("c", TensorProto.BOOL, [])],
            [value("out", FLOAT, [2])],
        )
    )
    assert "if" in {n.name for n in graph.takers("made")}
    assert {n.name: n.takes for n in graph.nodes}["if"] == ("c", "made")
    assert [n.name for n in graph.nodes] == ["relu", "if"]
    assert [n.name for n in graph.all_nodes] == ["relu", "if", "neg", "neg"]


def test_functions_of_the_model_are_written_out() -> None:
    proto = one_operator("Twice", {"x": [2]}, [2], domain="mine")
    proto.functions.append(
        helper.make_function(
            "mine",
            "Twice",
            ["a"],
            ["b"],
            [helper.make_node("Add", ["a", "a"], ["b"])],
            [helper.make_opsetid("", 17)],
        )
    )
    graph = view(proto)
    assert [n.operator for n in graph.nodes] == ["Add"]


def test_weights_stay_on_disk(tmp_path: Path) -> None:
    proto = one_operator(
        "MatMul", {"x": [1, 512]}, [1, 512], constants={"w": np.ones((512, 512), np.float32)}
    )
    graph = GraphView.of(onnxfile.save(proto, tmp_path / "m.onnx"))
    assert graph.model.ByteSize() < 4096
    weight = graph.constant("w")
    assert isinstance(weight, np.memmap)
    assert float(weight.sum()) == 512 * 512


def test_the_part_that_each_quantized_tensor_plays_is_known() -> None:
    graph = view(quantized_conv(integer_bias=True))
    roles = {(q.node.name, q.role, q.dtype) for q in quantized(graph)}
    assert ("x_quantize", "activation", "int8") in roles
    assert ("w_dequantize", "weight", "int8") in roles
    assert ("bias_dequantize", "bias", "int32") in roles


def test_a_weight_behind_a_pair_of_its_own_is_a_weight() -> None:
    proto: onnx.ModelProto = quantized_conv()
    integers = next(i for i in proto.graph.initializer if i.name == "w")
    integers.CopyFrom(onnx.numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w"))
    at = next(i for i, n in enumerate(proto.graph.node) if n.name == "w_dequantize")
    proto.graph.node[at].input[0] = "w_q"
    proto.graph.node.insert(
        at,
        helper.make_node(
            "QuantizeLinear", ["w", "w_scale", "w_zero"], ["w_q"], "w_quantize", axis=0
        ),
    )
    roles = {q.node.name: q.role for q in quantized(view(proto))}
    assert roles["w_quantize"] == roles["w_dequantize"] == "weight"


def test_what_stands_between_pairs_is_known() -> None:
    graph = view(quantized_conv())
    standing = {n.name for n in graph.nodes if in_pairs(n, graph)}
    assert standing == {"conv"}
