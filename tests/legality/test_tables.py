"""Providers' operator tables: the shipped ones, what their conditions mean, and what is wrong with a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from edgepack.errors import TargetError
from edgepack.legality.graph import GraphView
from edgepack.legality.support import left_by, refused
from edgepack.legality.tables import TABLES, ProviderTable, load_table, table_names
from edgepack.resources import TARGETS
from edgepack.targets import list_targets
from tests.legality.graphs import INT8, UINT8, one_operator, quantized_conv, view
from tests.models import FLOAT, value

PROVIDERS = sorted({q.name for p in list_targets() for q in p.runtime.providers})


def why(table: ProviderTable, proto: onnx.ModelProto, operator: str = "") -> str:
    """Why a table refuses a node (the only one, or the one of an operator); empty if it takes it."""
    graph: GraphView = view(proto)
    node = next(n for n in graph.nodes if operator in ("", n.operator))
    refusal = refused(table, node, graph)
    return "" if refusal is None else refusal.why


def with_conditions(**conditions: Any) -> ProviderTable:
    return ProviderTable.model_validate(
        {
            "provider": "SomeExecutionProvider",
            "title": "some",
            "source": "-",
            "operators": [{"names": ["Resize", "Relu", "Conv", "Softmax", "Clip"], **conditions}],
        }
    )


# The shipped ones


def test_every_provider_of_a_shipped_target_has_a_table() -> None:
    assert set(PROVIDERS) <= set(table_names())


@pytest.mark.parametrize("name", table_names())
def test_a_shipped_table_names_its_source_and_operators_that_exist(name: str) -> None:
    table = load_table(name)
    assert name.split("-")[0] == table.provider
    assert table.source
    newest = {s.name for s in onnx.defs.get_all_schemas_with_history() if not s.domain}
    # What the sources list besides: operators of old or experimental versions.
    old = {
        "Affine",
        "Crop",
        "ImageScaler",
        "ParametricSoftplus",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
    }
    names = {n for g in table.operators for n in g.names if "." not in n}
    assert names - newest - old == set()


def test_only_the_last_provider_and_one_that_takes_all_or_nothing_take_everything() -> None:
    takers = [n for n in table_names() if load_table(n).everything]
    assert takers == ["CPUExecutionProvider", "OpenVINOExecutionProvider"]


def test_tables_are_no_targets() -> None:
    assert TABLES.parent == TARGETS
    assert not {p.name for p in list_targets()} & set(table_names())


# What devices.md and precision.md say of them


@pytest.mark.parametrize(
    ("operator", "shapes", "out", "old", "new"),
    [
        ("LayerNormalization", {"x": [2, 4], "s": [4]}, [2, 4], False, True),
        ("Hardmax", {"x": [2, 4]}, [2, 4], False, True),
        ("IsInf", {"x": [2, 4]}, [2, 4], False, True),
        ("Det", {"x": [2, 3, 3]}, [2], False, False),
        ("HardSwish", {"x": [2, 4]}, [2, 4], True, True),
        ("Relu", {"x": [2, 4]}, [2, 4], True, True),
    ],
)
def test_tensorrt_learned_operators(
    operator: str, shapes: dict[str, list[int | str]], out: list[int | str], old: bool, new: bool
) -> None:
    proto = one_operator(operator, shapes, out)
    versions = [load_table(f"TensorrtExecutionProvider{v}") for v in ("-8.5", "")]
    assert [not why(t, proto) for t in versions] == [old, new]


def test_tensorrt_reads_wider_types_as_narrow_ones_where_it_says_so() -> None:
    wide = one_operator("Abs", {"x": [2]}, [2], dtype=TensorProto.INT64)
    assert why(load_table("TensorrtExecutionProvider-8.5"), wide) == ""
    assert "bool" in why(
        load_table("TensorrtExecutionProvider"),
        one_operator("Abs", {"x": [2]}, [2], dtype=TensorProto.BOOL),
    )


@pytest.mark.parametrize(
    ("proto", "takes"),
    [
        (quantized_conv(), True),
        (quantized_conv(activations=UINT8, weights=UINT8, per_channel=False), True),
        (quantized_conv(activations=UINT8, weights=INT8), False),
        (quantized_conv(activations=UINT8, weights=UINT8), False),
    ],
)
def test_xnnpack_multiplies_integers_of_one_sign(proto: onnx.ModelProto, takes: bool) -> None:
    said = why(load_table("XnnpackExecutionProvider"), proto, "Conv")
    assert (said == "") is takes
    assert takes or "uint8" in said


@pytest.mark.parametrize(
    ("proto", "takes"),
    [
        (quantized_conv(), False),
        (quantized_conv(activations=UINT8, weights=UINT8, per_channel=False), True),
    ],
)
def test_nnapi_takes_unsigned_activations(proto: onnx.ModelProto, takes: bool) -> None:
    assert (why(load_table("NnapiExecutionProvider"), proto, "Conv") == "") is takes


def test_an_activation_alone_is_not_taken_by_xnnpack_but_with_its_convolution_it_is() -> None:
    table = load_table("XnnpackExecutionProvider")
    assert "only right after" in why(table, one_operator("Relu", {"x": [1, 4]}, [1, 4]))
    proto = one_operator(
        "Conv",
        {"x": [1, 2, 4, 4]},
        [1, 3, 2, 2],
        constants={"w": np.zeros((3, 2, 3, 3), np.float32)},
    )
    proto.graph.node.append(onnx.helper.make_node("Relu", ["out"], ["end"], "relu"))
    assert left_by(table, view(proto)) == ()


def test_nnapi_and_coreml_take_no_free_dimension() -> None:
    proto = one_operator("Relu", {"x": ["batch", 4]}, ["batch", 4])
    for name in ("NnapiExecutionProvider", "CoreMLExecutionProvider"):
        assert why(load_table(name), proto) == "not with free dimensions"
    assert why(load_table("WebGpuExecutionProvider"), proto) == ""


def test_webgpu_has_no_64_bit_floats() -> None:
    proto = one_operator("Relu", {"x": [1, 4]}, [1, 4])
    for edge in (*proto.graph.input, *proto.graph.output):
        edge.type.tensor_type.elem_type = TensorProto.DOUBLE
    assert why(load_table("WebGpuExecutionProvider"), proto) == "not in float64"


# What each condition means


@pytest.mark.parametrize(
    ("conditions", "proto", "said"),
    [
        ({"types": ["float16"]}, one_operator("Relu", {"x": [2]}, [2]), "not in float32"),
        ({"types": ["float32"]}, one_operator("Relu", {"x": [2]}, [2]), ""),
        ({"ranks": [4]}, one_operator("Relu", {"x": [2]}, [2]), "not with 1 dimensions"),
        ({"static": "inner"}, one_operator("Relu", {"x": ["n", 4]}, ["n", 4]), ""),
        ({"static": "inner"}, one_operator("Relu", {"x": [1, "n"]}, [1, "n"]), "not with free dimensions"),
        ({"constants": [1]}, one_operator("Clip", {"x": [2], "low": []}, [2]), "its input 1 is no constant"),
        ({"constants": [1]}, one_operator("Clip", {"x": [2]}, [2], constants={"low": np.float32(0)}), ""),
        ({"zeros": [1]}, one_operator("Clip", {"x": [2]}, [2], constants={"low": np.float32(3)}), "its input 1 is not 0"),
        ({"attributes": {"axis": [1]}}, one_operator("Softmax", {"x": [2, 3]}, [2, 3], axis=0), "not with axis 0"),
        ({"attributes": {"axis": [1]}}, one_operator("Softmax", {"x": [2, 3]}, [2, 3]), ""),
        ({"attributes": {"pads": [[0, 0]]}}, one_operator("Conv", {"x": [1, 1, 4], "w": [1, 1, 3]}, [1, 1, 4], pads=[1, 1]), "not with pads [1, 1]"),
        ({"absent": ["pads"]}, one_operator("Conv", {"x": [1, 1, 4], "w": [1, 1, 3]}, [1, 1, 4], pads=[1, 1]), "not with the attribute pads"),
        ({"last_axis": True}, one_operator("Softmax", {"x": [2, 3]}, [2, 3], axis=0), "only along the last axis"),
        ({"last_axis": True}, one_operator("Softmax", {"x": [2, 3]}, [2, 3], axis=1), ""),
        ({"minimum": 14}, one_operator("Relu", {"x": [2]}, [2], opset=13), "not in its version of operator set 13, but of 14 to the newest"),
        ({"minimum": 14}, one_operator("Relu", {"x": [2]}, [2], opset=17), ""),
        ({"maximum": 13}, one_operator("Relu", {"x": [2]}, [2], opset=17), "not in its version of operator set 14, but of 1 to 13"),
    ],
)  # fmt: skip
def test_a_condition_is_held(conditions: dict[str, Any], proto: onnx.ModelProto, said: str) -> None:
    assert why(with_conditions(**conditions), proto) == said


def test_what_is_not_known_is_not_taken_for_granted() -> None:
    proto = one_operator("Mystery", {"x": [2]}, None, domain="acme")
    proto.graph.node.append(onnx.helper.make_node("Relu", ["out"], ["end"], "relu"))
    proto.graph.output[0].CopyFrom(value("end", FLOAT, None))
    assert why(with_conditions(types=["float32"]), proto, "Relu") == "its type is not known"
    assert why(with_conditions(ranks=[1]), proto, "Relu") == "its rank is not known"
    assert why(with_conditions(static="all"), proto, "Relu") == "not with free dimensions"


def test_an_output_that_the_provider_does_not_make_is_found() -> None:
    node = onnx.helper.make_node("MaxPool", ["x"], ["y", "where"], "pool", kernel_shape=[2, 2])
    proto = one_operator("Relu", {"x": [1, 1, 4, 4]}, [1, 1, 4, 4])
    proto.graph.node.append(node)
    assert "2 outputs" in why(load_table("TensorrtExecutionProvider"), proto, "MaxPool")


# Faulty files


def test_an_unknown_table_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(TargetError, match="TensortExecutionProvider") as caught:
        load_table("TensortExecutionProvider")
    assert "did you mean 'TensorrtExecutionProvider'?" in caught.value.fix


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["  - names: [Relu]", "    rank: [4]"], "mine.yaml:6: unknown key operators.0.rank"),
        (["  - names: []"], "operators.0.names"),
        (["  - names: [Relu]", "  - names: [Relu]"], "Relu stand in two groups"),
        (["  - names: [Relu]", "    static: perhaps"], "operators.0.static is 'perhaps'"),
    ],
)
def test_a_faulty_table_is_refused_with_its_place(
    lines: list[str], said: str, tmp_path: Path
) -> None:
    head = ["provider: SomeExecutionProvider", "title: some", "source: me", "operators:"]
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    with pytest.raises(TargetError) as caught:
        load_table("mine", tmp_path)
    assert said in caught.value.cause
