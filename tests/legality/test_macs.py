"""Multiply-accumulates against numbers counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.legality.graph import GraphView
from edgepack.legality.macs import int8_mac_share, node_macs, total_macs, uncounted
from edgepack.passes.ort_format import OrtFormat
from edgepack.passes.simplify import Simplify
from tests.legality.graphs import one_operator, quantized_conv, residual_model, view
from tests.models import FLOAT, conv_model, images, model, run_step, tensors, value, wrap

F = np.float32


def zeros(*shape: int, dtype: type = F) -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("macs", "proto"),
    [
        (2 * 4 * 4 * 8 * 3 * 9, one_operator("Conv", {"x": [2, 3, 6, 6]}, [2, 8, 4, 4], constants={"w": zeros(8, 3, 3, 3)})),
        (4 * 4 * 8 * 9, one_operator("Conv", {"x": [1, 8, 6, 6]}, [1, 8, 4, 4], constants={"w": zeros(8, 1, 3, 3)}, group=8)),
        (5 * 16 * 4 * 3, one_operator("Conv", {"x": [1, 4, 7]}, [1, 16, 5], constants={"w": zeros(16, 4, 3)})),
        (6 * 6 * 3 * 8 * 9, one_operator("ConvTranspose", {"x": [1, 3, 6, 6]}, [1, 8, 8, 8], constants={"w": zeros(3, 8, 3, 3)})),
        (2 * 5 * 7 * 4, one_operator("MatMul", {"a": [2, 5, 4]}, [2, 5, 7], constants={"b": zeros(4, 7)})),
        (5 * 7 * 4, one_operator("Gemm", {"a": [5, 4]}, [5, 7], constants={"b": zeros(4, 7)})),
        (5 * 7 * 4, one_operator("Gemm", {"a": [4, 5]}, [5, 7], constants={"b": zeros(7, 4)}, transA=1, transB=1)),
        (2 * 3 * 5 * 4, one_operator("Einsum", {"a": [2, 3, 4], "b": [2, 4, 5]}, [2, 3, 5], equation="bij,bjk->bik")),
        (0, one_operator("Einsum", {"a": [2, 3]}, [3, 2], equation="ij->ji")),
        (0, one_operator("Relu", {"a": [2, 3]}, [2, 3])),
        (8 * 4 * 6, one_operator("MatMulInteger", {"a": [8, 4]}, [8, 6], constants={"b": zeros(4, 6, dtype=np.uint8)}, dtype=TensorProto.UINT8, out_dtype=TensorProto.INT32)),
        (8 * 4 * 6, one_operator("FusedMatMul", {"a": [4, 8]}, [8, 6], constants={"b": zeros(4, 6)}, domain="com.microsoft", transA=1)),
    ],
)  # fmt: skip
def test_an_operators_arithmetic_is_counted(macs: int, proto: onnx.ModelProto) -> None:
    graph = view(proto)
    assert node_macs(graph.nodes[0], graph) == macs
    assert total_macs(graph) == macs


def test_a_recurrent_layer_counts_each_step_of_each_sequence() -> None:
    time, batch, features, hidden = 5, 2, 3, 4
    proto = one_operator(
        "LSTM",
        {"x": [time, batch, features]},
        [time, 1, batch, hidden],
        constants={"w": zeros(1, 4 * hidden, features), "r": zeros(1, 4 * hidden, hidden)},
        hidden_size=hidden,
    )
    assert total_macs(view(proto)) == time * batch * 4 * hidden * (features + hidden)


def test_a_known_networks_sum_is_right() -> None:
    stem, depthwise, project = 256 * 8 * 27, 256 * 8 * 9, 256 * 8 * 8
    assert total_macs(view(residual_model())) == stem + depthwise + project + 64 + 80


def test_a_body_counts_once_and_with_its_node() -> None:
    branch = [
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], [f"y{i}"], f"inner{i}")],
            f"branch{i}",
            [],
            [value(f"y{i}", FLOAT, [2, 3])],
        )
        for i in range(2)
    ]
    proto = model(
        [
            helper.make_node(
                "If", ["c"], ["out"], "if", then_branch=branch[0], else_branch=branch[1]
            )
        ],
        [value("x", FLOAT, [2, 4]), value("c", TensorProto.BOOL, [])],
        [value("out", FLOAT, [2, 3])],
        tensors({"w": zeros(4, 3)}),
    )
    graph = view(proto)
    assert [n.name for n in graph.nodes] == ["if"]
    assert total_macs(graph) == 2 * (2 * 3 * 4)


def test_control_flow_of_one_name_keeps_its_own_bodies() -> None:
    def branch(name: str) -> onnx.GraphProto:
        inner = helper.make_node("MatMul", ["x", "w"], [name], f"inner_{name}")
        return helper.make_graph([inner], name, [], [value(name, FLOAT, [2, 3])])

    nodes = [
        helper.make_node(
            "If",
            ["c"],
            [f"out{i}"],
            "same",
            then_branch=branch(f"then{i}"),
            else_branch=branch(f"else{i}"),
        )
        for i in range(2)
    ]
    proto = model(
        nodes,
        [value("x", FLOAT, [2, 4]), value("c", TensorProto.BOOL, [])],
        [value(f"out{i}", FLOAT, [2, 3]) for i in range(2)],
        tensors({"w": zeros(4, 3)}),
    )
    assert total_macs(view(proto)) == 4 * (2 * 3 * 4)


def test_a_free_dimension_counts_as_one_and_an_unknown_rank_is_said() -> None:
    free = one_operator("MatMul", {"a": ["n", 4]}, ["n", 7], constants={"b": zeros(4, 7)})
    assert total_macs(view(free)) == 28
    unknown = one_operator("MatMul", {"a": [1, 4]}, None, domain="acme")
    unknown.graph.node.append(helper.make_node("MatMul", ["out", "w"], ["end"], "last"))
    unknown.graph.initializer.extend(tensors({"w": zeros(4, 4)}))
    graph = view(unknown)
    assert [n.name for n in uncounted(graph)] == ["last"]
    assert total_macs(graph) == 0


# The share in integers


def test_a_convolution_between_pairs_is_integer() -> None:
    assert int8_mac_share(view(quantized_conv())) == 1.0


def _without(proto: onnx.ModelProto, *names: str) -> onnx.ModelProto:
    """The graph with pairs taken out: what they made is what they took."""
    passed: dict[str, str] = {}
    kept = []
    for node in proto.graph.node:
        inputs = [passed.get(n, n) for n in node.input]
        del node.input[:]
        node.input.extend(inputs)
        if node.name in names:
            passed[node.output[0]] = node.input[0]
        else:
            kept.append(node)
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return proto


def test_one_whose_output_stays_float_is_integer_only_where_the_recipe_says_so() -> None:
    proto = _without(quantized_conv(), "c_quantize", "c_dequantize")
    assert int8_mac_share(view(proto)) == 0.0
    assert int8_mac_share(view(proto), float_outputs=("Conv",)) == 1.0


def test_one_whose_input_is_float_is_not_integer() -> None:
    proto = _without(quantized_conv(), "x_quantize", "x_dequantize")
    assert int8_mac_share(view(proto), float_outputs=("Conv",)) == 0.0


def test_sixteen_bits_are_not_eight() -> None:
    proto = quantized_conv(activations=TensorProto.INT16)
    proto.opset_import[0].version = 21
    assert int8_mac_share(view(proto)) == 0.0


def test_a_model_without_arithmetic_has_no_share_of_it() -> None:
    assert int8_mac_share(view(one_operator("Relu", {"a": [2, 3]}, [2, 3]))) == 0.0


def _int8(folder: Path, **options: Any) -> ModelFile:
    from edgepack.passes.int8 import Int8

    start = run_step(Simplify(), wrap(conv_model(batch=1), folder), folder).model
    return run_step(Int8(**options), start, folder, images(8)).model


def test_fused_integer_operators_of_an_ort_file_count_as_their_pairs_did(tmp_path: Path) -> None:
    made = _int8(tmp_path)
    fused = run_step(OrtFormat(style="fixed"), made, tmp_path).model
    before, after = GraphView.of(made), GraphView.of(fused)
    assert {n.operator for n in after.nodes} & {"QLinearConv", "com.microsoft.QLinearConv"}
    assert total_macs(after) == total_macs(before) > 0
    assert int8_mac_share(before) == int8_mac_share(after) == 1.0


def test_a_layer_left_in_float_is_missing_from_the_share(tmp_path: Path) -> None:
    made = _int8(tmp_path, float_operators=("Softmax", "Gemm"))
    graph = GraphView.of(made)
    gemm = next(n for n in graph.nodes if n.operator == "Gemm")
    share = 1 - (node_macs(gemm, graph) or 0) / total_macs(graph)
    assert int8_mac_share(graph) == pytest.approx(share)
    assert onnxfile.is_quantized(onnxfile.load(made))
