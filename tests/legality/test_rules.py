"""Each rule finds the graph that breaks it, and names where; and leaves the one that keeps it alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.errors import LegalityError
from edgepack.legality.finding import Finding
from edgepack.legality.graph import GraphView
from edgepack.legality.registry import RULES, rules_for
from edgepack.legality.require import findings_in, require_legal
from edgepack.legality.rules.files import FileSize, OpsetRange
from edgepack.legality.rules.interface import InterfaceNames, InterfaceTypes
from edgepack.legality.rules.operators import ForbiddenOperators, KnownOperators, ProviderOperators
from edgepack.legality.rules.quantization import (
    FloatBias,
    FloatOperators,
    Int8Share,
    IntegerTypes,
    PerChannelWeights,
    ZeroPoints,
)
from edgepack.legality.rules.rule import Rule
from edgepack.legality.rules.shapes import StaticShapes
from edgepack.legality.rules.types import Float16Arithmetic
from edgepack.targets import load_target
from tests.legality.graphs import INT8, INT16, UINT8, one_operator, quantized_conv, view
from tests.models import FLOAT, conv_model, free_size_model, model, tensors, value, wrap

BOARD, WASM, NNAPI = "jetson-orin", "web", "android-nnapi"


def found(rule: Rule, proto: onnx.ModelProto, **options: object) -> list[Finding]:
    return list(rule.findings(view(proto, **options)))


def only(rule: Rule, proto: onnx.ModelProto, **options: object) -> Finding:
    (finding,) = found(rule, proto, **options)
    assert finding.rule == rule.name
    assert finding.fix
    return finding


def errors_on(target: str, precision: str, proto: onnx.ModelProto) -> set[str]:
    findings = findings_in(view(proto), load_target(target), precision)
    assert all(f.source for f in findings)
    return {f.rule for f in findings if f.severity == "error"}


def test_a_graph_as_tensorrt_wants_it_breaks_no_rule() -> None:
    assert errors_on(BOARD, "int8", quantized_conv()) == set()


# Quantization


@pytest.mark.parametrize(
    ("proto", "node", "tensor", "number"),
    [
        (quantized_conv(activation_zero=3), "x_quantize", "x_zero", "3"),
        (quantized_conv(weight_zero=-2), "w_dequantize", "w_zero", "-2"),
    ],
)
def test_a_zero_point_that_is_not_zero_is_found(
    proto: onnx.ModelProto, node: str, tensor: str, number: str
) -> None:
    first = found(ZeroPoints(), proto)[0]
    assert (first.node, first.tensor, first.value) == (node, tensor, number)
    assert first.operator in ("QuantizeLinear", "DequantizeLinear")
    assert "zero_points" in errors_on(BOARD, "int8", proto)


def test_a_zero_point_that_is_computed_is_found() -> None:
    first = found(ZeroPoints(), quantized_conv(computed_zero=True))[0]
    assert (first.tensor, first.value) == ("made_zero", "not a constant")


def test_zero_points_of_activations_may_be_exempt() -> None:
    proto = quantized_conv(activation_zero=3)
    assert found(ZeroPoints(activations=False), proto) == []
    assert found(ZeroPoints(weights=False), quantized_conv(weight_zero=1)) == []


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_uint8_is_found_on_tensorrt_whatever_the_precision(precision: str) -> None:
    proto = quantized_conv(activations=UINT8, weights=UINT8, per_channel=False)
    first = found(IntegerTypes(activations=("int8",), weights=("int8",)), proto)[0]
    assert (first.node, first.tensor, first.value) == ("x_quantize", "image", "uint8")
    assert "integer_types" in errors_on(BOARD, precision, proto)


def test_signed_activations_are_found_on_nnapi() -> None:
    assert "integer_types" in errors_on(NNAPI, "int8", quantized_conv())
    unsigned = quantized_conv(activations=UINT8, weights=UINT8, activation_zero=128)
    assert "integer_types" not in errors_on(NNAPI, "int8", unsigned)


def test_weights_and_activations_have_types_of_their_own() -> None:
    mixed = quantized_conv(activations=UINT8, weights=INT8)
    assert found(IntegerTypes(activations=("uint8",), weights=("int8",)), mixed) == []
    roles = {
        f.tensor for f in found(IntegerTypes(activations=("uint8",), weights=("uint8",)), mixed)
    }
    assert roles == {"w"}


def test_sixteen_bits_are_a_warning_on_a_cpu() -> None:
    proto = quantized_conv(activations=INT16)
    proto.opset_import[0].version = 21
    findings = findings_in(view(proto), load_target(WASM), "int8")
    assert {f.severity for f in findings if f.rule == "integer_types"} == {"warning"}


def test_an_integer_bias_is_found() -> None:
    proto = quantized_conv(integer_bias=True)
    finding = only(FloatBias(), proto)
    assert (finding.node, finding.operator) == ("bias_dequantize", "DequantizeLinear")
    assert (finding.tensor, finding.value) == ("bias", "int32")
    assert "float_bias" in errors_on(BOARD, "int8", proto)
    assert found(FloatBias(), quantized_conv()) == []


def test_one_scale_for_all_channels_is_found() -> None:
    proto = quantized_conv(per_channel=False)
    finding = only(PerChannelWeights(), proto)
    assert (finding.node, finding.tensor) == ("w_dequantize", "w_scale")
    assert "Conv conv" in finding.cause
    assert "per_channel_weights" in errors_on(BOARD, "int8", proto)
    assert found(PerChannelWeights(operators=("Gemm",)), proto) == []


def test_a_single_scale_is_found_behind_a_transposition_too() -> None:
    proto = quantized_conv(per_channel=False)
    (conv,) = (n for n in proto.graph.node if n.op_type == "Conv")
    conv.input[1] = "w_turned"
    turned = helper.make_node("Transpose", ["w_dq"], ["w_turned"], "turn", perm=[0, 1, 3, 2])
    proto.graph.node.insert(list(proto.graph.node).index(conv), turned)
    assert "Conv conv" in only(PerChannelWeights(), proto).cause


def test_a_quantized_softmax_is_found() -> None:
    finding = only(FloatOperators(), quantized_conv(quantized_softmax=True))
    assert (finding.node, finding.operator, finding.tensor) == ("softmax", "Softmax", "soft")
    assert finding.value == "scale 0.05"
    # Its input may come from integers: what it makes must not become some.
    assert found(FloatOperators(), quantized_conv()) == []


def test_a_fused_integer_softmax_is_found() -> None:
    proto = one_operator(
        "QLinearSoftmax", {"x": [1, 4]}, [1, 4], dtype=UINT8, domain="com.microsoft", opset=17
    )
    assert only(FloatOperators(), proto).operator == "com.microsoft.QLinearSoftmax"


def test_too_little_integer_arithmetic_is_a_warning_that_names_the_heaviest() -> None:
    proto = quantized_conv()
    big = helper.make_node("MatMul", ["out", "big"], ["more"], "heavy")
    proto.graph.node.append(big)
    proto.graph.initializer.extend(tensors({"big": np.ones((2, 500), np.float32)}))
    proto.graph.output[0].CopyFrom(value("more", FLOAT, [1, 3, 2, 500]))
    finding = only(Int8Share(), proto)
    assert (finding.node, finding.severity) == ("heavy", "warning")
    assert float(finding.value) == pytest.approx(216 / (216 + 6000), abs=1e-3)
    assert found(Int8Share(minimum=0.03), proto) == []


def test_a_float_model_is_not_told_that_it_is_not_quantized() -> None:
    assert found(Int8Share(), conv_model(batch=1)) == []


# Operators


def test_an_integer_convolution_is_found_on_wasm() -> None:
    proto = one_operator(
        "ConvInteger",
        {"x": [1, 1, 4, 4]},
        [1, 2, 2, 2],
        constants={"w": np.ones((2, 1, 3, 3), np.uint8)},
        dtype=UINT8,
        out_dtype=TensorProto.INT32,
    )
    findings = findings_in(view(proto), load_target(WASM), "int8")
    (finding,) = [f for f in findings if f.severity == "error"]
    assert (finding.rule, finding.operator) == ("forbidden_operators", "ConvInteger")
    assert finding.node == "convinteger"


def test_an_integer_product_is_an_error_on_tensorrt_and_a_warning_on_wasm() -> None:
    proto = one_operator(
        "MatMulInteger",
        {"x": [2, 4]},
        [2, 3],
        constants={"w": np.ones((4, 3), np.uint8)},
        dtype=UINT8,
        out_dtype=TensorProto.INT32,
    )
    assert "forbidden_operators" in errors_on(BOARD, "int8", proto)
    assert errors_on(WASM, "int8", proto) == set()
    rules = {f.rule for f in findings_in(view(proto), load_target(WASM), "int8")}
    assert "discouraged_operators" in rules


@pytest.mark.parametrize("domain", ["acme", "com.microsoft.nchwc"])
@pytest.mark.parametrize("target", [BOARD, WASM, "android"])
def test_an_operator_that_no_runtime_has_is_found(domain: str, target: str) -> None:
    proto = one_operator("ReorderInput", {"x": [1, 8]}, [1, 8], domain=domain)
    finding = only(KnownOperators(), proto)
    assert (finding.node, finding.operator) == ("reorderinput", f"{domain}.ReorderInput")
    assert finding.value == domain
    assert "known_operators" in errors_on(target, "fp32", proto)


def test_an_operator_newer_than_the_operator_set_is_found() -> None:
    proto = one_operator("Gelu", {"x": [1, 8]}, [1, 8], opset=17)
    assert "operator set 17 has no Gelu" in only(KnownOperators(), proto).cause
    assert found(KnownOperators(), one_operator("Gelu", {"x": [1, 8]}, [1, 8], opset=20)) == []


def test_operators_that_a_provider_leaves_are_warnings_with_the_tables_source() -> None:
    proto = one_operator("Det", {"x": [2, 3, 3]}, [2])
    finding = only(ProviderOperators(tables=("TensorrtExecutionProvider",)), proto)
    assert (finding.severity, finding.operator, finding.node) == ("warning", "Det", "det")
    assert "onnx-tensorrt" in finding.source
    assert errors_on(BOARD, "fp32", proto) == set()


def test_a_forbidden_operator_inside_a_body_is_found() -> None:
    body = helper.make_graph(
        [helper.make_node("Det", ["x"], ["d"], "inner")], "body", [], [value("d", FLOAT, [2])]
    )
    other = helper.make_graph(
        [helper.make_node("ReduceSum", ["x", "axes"], ["s"], "sum", keepdims=0)],
        "other",
        [],
        [value("s", FLOAT, [2])],
    )
    proto = model(
        [helper.make_node("If", ["c"], ["out"], "if", then_branch=body, else_branch=other)],
        [value("x", FLOAT, [2, 3, 3]), value("c", TensorProto.BOOL, [])],
        [value("out", FLOAT, [2])],
        tensors({"axes": np.array([1, 2])}),
    )
    assert only(ForbiddenOperators(operators={"Det": "no"}), proto).node == "inner"
    left = only(ProviderOperators(tables=("TensorrtExecutionProvider",)), proto)
    assert (left.operator, left.node) == ("If", "if")
    assert "in its body" in left.cause


# Types, shapes, files


def test_float16_arithmetic_is_a_warning_on_wasm_and_none_on_webgpu() -> None:
    proto = one_operator("Relu", {"x": [1, 8]}, [1, 8], dtype=TensorProto.FLOAT16)
    finding = only(Float16Arithmetic(severity="warning"), proto)
    assert (finding.node, finding.tensor, finding.value) == ("relu", "out", "float16")
    rules = {f.rule for f in findings_in(view(proto), load_target(WASM), "fp16")}
    assert "float16_arithmetic" in rules
    rules = {f.rule for f in findings_in(view(proto), load_target("web-webgpu"), "fp16")}
    assert "float16_arithmetic" not in rules


def test_moving_float16_values_is_no_arithmetic() -> None:
    proto = one_operator("Transpose", {"x": [1, 8]}, [8, 1], dtype=TensorProto.FLOAT16)
    assert found(Float16Arithmetic(), proto) == []


def test_free_dimensions_are_found_with_the_option_that_closes_them() -> None:
    finding = only(StaticShapes(), free_size_model())
    assert finding.tensor == "image"
    assert "axis 0 (batch), axis 1 (height), axis 2 (width)" in finding.cause
    assert "--shape 'image=?x?x?x3'" in finding.fix
    assert "static_shapes" in errors_on(BOARD, "fp32", free_size_model())
    assert errors_on(WASM, "fp32", free_size_model()) == set()


def test_a_shape_that_depends_on_values_is_a_warning_at_its_node() -> None:
    proto = one_operator("NonZero", {"x": [4, 4]}, [2, "found"], out_dtype=TensorProto.INT64)
    finding = only(StaticShapes(), proto)
    assert (finding.node, finding.operator, finding.severity) == ("nonzero", "NonZero", "warning")


@pytest.mark.parametrize(("opset", "legal"), [(8, False), (9, True), (20, True), (21, False)])
def test_an_opset_out_of_range_is_found(opset: int, legal: bool) -> None:
    proto = one_operator("Relu", {"x": [1, 8]}, [1, 8], opset=opset)
    findings = found(OpsetRange(minimum=9, maximum=20), proto)
    assert [f.value for f in findings] == ([] if legal else [str(opset)])
    assert ("opset" in errors_on(BOARD, "fp32", proto)) is not legal


def test_a_file_format_newer_than_the_opset_is_found() -> None:
    proto = one_operator("Relu", {"x": [1, 8]}, [1, 8])
    proto.ir_version = 10
    assert only(OpsetRange(minimum=9, maximum=17), proto).value == "10"


def test_a_file_too_large_for_some_hosts_is_a_warning_that_names_it() -> None:
    proto = one_operator("Relu", {"x": [1, 8]}, [1, 8])
    rule = next(r for r in rules_for(load_target(WASM), "fp32") if isinstance(r, FileSize))
    (finding,) = found(rule, proto, files=[("big.onnx", 26_214_401)])
    assert (finding.severity, finding.tensor, finding.value) == ("warning", "big.onnx", "26214401")
    assert "Cloudflare" in finding.cause
    assert found(rule, proto, files=[("big.onnx", 26_214_400)]) == []
    severities = {f.severity for f in found(rule, proto, files=[("big.onnx", 2**31)])}
    assert severities == {"warning", "error"}


def test_a_real_files_size_is_what_is_held_against_the_limit(tmp_path: Path) -> None:
    made = wrap(conv_model(batch=1), tmp_path)
    rule = FileSize(maximum_bytes=made.size_bytes - 1)
    assert [f.tensor for f in rule.findings(GraphView.of(made))] == ["start.onnx"]


# What goes in and comes out


def passed_on(name: str, dtype: int) -> onnx.ModelProto:
    return model(
        [helper.make_node("Identity", [name], [f"{name}:out"])],
        [value(name, dtype, [2])],
        [value(f"{name}:out", dtype, [2])],
    )


def test_an_element_type_that_the_api_lacks_is_found_at_both_ends() -> None:
    rule = InterfaceTypes(lacking=("uint16", "uint32"))
    ends = found(rule, passed_on("x", TensorProto.UINT32))
    assert [(f.tensor, f.value) for f in ends] == [("x", "uint32"), ("x:out", "uint32")]
    assert "the input 'x' is uint32" in ends[0].cause
    assert "cast it" in ends[0].fix
    assert found(rule, passed_on("x", TensorProto.INT32)) == []


@pytest.mark.parametrize("name", ["x😀", "𝒙"])
def test_a_name_beyond_the_basic_plane_is_found_with_the_character(name: str) -> None:
    ends = found(InterfaceNames(), passed_on(name, FLOAT))
    assert [f.tensor for f in ends] == [name, f"{name}:out"]
    assert f"U+{max(map(ord, name)):X}" in ends[0].cause
    assert found(InterfaceNames(), passed_on("入力 ü", FLOAT)) == []


@pytest.mark.parametrize("proto", [passed_on("x😀", FLOAT), passed_on("x", TensorProto.UINT16)])
def test_what_javas_api_cannot_say_is_refused_for_android_and_nowhere_else(
    proto: onnx.ModelProto,
) -> None:
    assert errors_on("android", "fp32", proto) & {"interface_names", "interface_types"}
    assert not errors_on("ios-cpu", "fp32", proto)


# All together


def test_every_rule_that_is_registered_is_broken_by_some_test_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    unknown = [r.__name__ for r in RULES.values() if r.__name__ not in text and r.name not in text]
    assert unknown == []


def test_a_legal_model_gives_its_warnings(tmp_path: Path) -> None:
    made = wrap(quantized_conv(), tmp_path)
    assert require_legal(made, load_target(BOARD), "int8") == ()
    rules = {f.rule for f in require_legal(made, load_target("web-webgpu"), "int8")}
    assert rules == {"provider_operators"}


def test_an_illegal_model_raises_what_was_found_node_by_node(tmp_path: Path) -> None:
    made = wrap(quantized_conv(integer_bias=True, activation_zero=7), tmp_path)
    with pytest.raises(LegalityError) as caught:
        require_legal(made, load_target(BOARD), "int8")
    said = caught.value.cause
    assert said.startswith("jetson-orin: the int8 graph has 5 things")
    for part in ("x_quantize", "x_zero", "is 7", "bias_dequantize", "int32", "onnxruntime#14229"):
        assert part in said
    assert caught.value.exit_code == 11


def test_weights_in_a_file_of_their_own_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.weights.INLINE_LIMIT_BYTES", 1)
    proto = quantized_conv()
    wide = np.zeros(2048, np.int8)
    wide[-1] = 5
    zero = next(i for i in proto.graph.initializer if i.name == "w_zero")
    zero.CopyFrom(onnx.numpy_helper.from_array(wide, "w_zero"))
    made: ModelFile = onnxfile.save(proto, tmp_path / "apart.onnx")
    assert [p.name for p in made.beside] == ["apart.onnx.data"]
    with pytest.raises(LegalityError, match="w_zero of the weight w is 5"):
        require_legal(made, load_target(BOARD), "int8")
