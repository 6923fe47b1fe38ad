"""What a conversion left is listed, all of it."""

from __future__ import annotations

import onnx
import pytest
from onnx import helper

from edgepack.errors import ModelError
from edgepack.intake.leftovers import refuse_leftovers
from tests.intake.test_canonical import branching, node
from tests.models import FLOAT, conv_model, model, value


def test_leftovers_are_all_listed_with_counts_and_the_first_ones_name() -> None:
    nodes = [
        node("StringJoin", "x", "a", "join-1"),
        node("StringJoin", "a", "b", "join-2"),
        node("Magic", "b", "y", "spell", domain="my.own"),
    ]
    proto = model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])], domains=["my.own"])
    with pytest.raises(ModelError) as caught:
        refuse_leftovers(proto)
    assert "StringJoin ×2 (join-1, join-2)" in caught.value.cause
    assert "my.own.Magic ×1 (spell)" in caught.value.cause


def test_a_leftover_in_a_branch_is_found() -> None:
    proto = branching(1)
    branch = next(n for n in proto.graph.node if n.op_type == "If").attribute[0].g
    branch.node[0].op_type = "StringJoin"
    with pytest.raises(ModelError, match="StringJoin ×1"):
        refuse_leftovers(proto)


def test_an_operator_newer_than_the_opset_is_a_leftover() -> None:
    def gelu(opset: int) -> onnx.ModelProto:
        edge = [value("x", FLOAT, [2])], [value("y", FLOAT, [2])]
        return model([node("Gelu", "x", "y")], *edge, opset=opset)

    with pytest.raises(ModelError, match="Gelu"):
        refuse_leftovers(gelu(17))
    refuse_leftovers(gelu(20))


def test_what_onnxruntime_knows_and_local_functions_are_no_leftovers() -> None:
    nodes = [
        node("FastGelu", "x", "a", domain="com.microsoft"),
        node("Scaler", "a", "b", domain="ai.onnx.ml", offset=[0.0], scale=[1.0]),
        node("Twice", "b", "y", domain="local"),
    ]
    domains = ["com.microsoft", "ai.onnx.ml", "local"]
    proto = model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])], domains=domains)
    body = [node("Add", "v v", "w")]
    proto.functions.append(
        helper.make_function("local", "Twice", ["v"], ["w"], body, [helper.make_opsetid("", 17)])
    )
    refuse_leftovers(proto)


def test_a_clean_graph_has_no_leftovers() -> None:
    refuse_leftovers(conv_model())


def test_a_leftovers_layer_is_named() -> None:
    nodes = [node("Magic", "x", "y", "net_1/dense_2_1/Magic", domain="my.own")]
    proto = model(nodes, [value("x", FLOAT, [2])], [value("y", FLOAT, [2])], domains=["my.own"])
    with pytest.raises(ModelError) as caught:
        refuse_leftovers(proto, ("dense_2", "dense_2_1"))
    assert "net_1/dense_2_1/Magic in layer dense_2)" in caught.value.cause
    assert "--op-handler my.own.Magic=module:function" in caught.value.fix
    assert "--outputs" in caught.value.fix
