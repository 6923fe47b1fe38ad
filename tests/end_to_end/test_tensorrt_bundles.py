"""INT8 bundles for TensorRT, looked at by eyes that know nothing of edgepack's own rules (tensorrt_walk.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgepack
from edgepack.targets import list_targets
from tests.end_to_end.tensorrt_walk import faults, int32_initializers
from tests.legality.graphs import INT8, UINT8, quantized_conv, residual_model
from tests.models import FLOAT, conv_model, model, tensors, value, write

TARGETS = [
    p.name
    for p in list_targets()
    if any(r.name == "TensorrtExecutionProvider" for r in p.runtime.providers)
]


def attention_model() -> onnx.ModelProto:
    """float32 `tokens` [1, 8, 16] to float32 `scores` [1, 4]: attention with one head, a perceptron with GELU, residuals."""
    rng = np.random.default_rng(0)
    shapes = {"wq": (16, 16), "wk": (16, 16), "wv": (16, 16), "w1": (16, 32), "w2": (32, 16), "w3": (16, 4)}  # fmt: skip
    arrays = {n: (rng.normal(size=s) * 0.25).astype(np.float32) for n, s in shapes.items()}
    arrays |= {"b1": rng.normal(size=32).astype(np.float32), "quarter": np.float32(0.25)}
    arrays |= {"root_half": np.float32(0.5**0.5), "one": np.float32(1), "half": np.float32(0.5)}

    def node(operator: str, inputs: str, out: str, **attributes: object) -> onnx.NodeProto:
        return helper.make_node(operator, inputs.split(), [out], f"make_{out}", **attributes)

    nodes = [
        *(node("MatMul", f"tokens w{x}", x) for x in "qkv"),
        node("Transpose", "k", "kt", perm=[0, 2, 1]),
        node("MatMul", "q kt", "products"),
        node("Mul", "products quarter", "scaled"),
        node("Softmax", "scaled", "attended", axis=-1),
        node("MatMul", "attended v", "mixed"),
        node("Add", "tokens mixed", "sum"),
        node("MatMul", "sum w1", "wide"),
        node("Add", "wide b1", "biased"),
        node("Mul", "biased root_half", "scaled_down"),
        node("Erf", "scaled_down", "erf"),
        node("Add", "erf one", "raised"),
        node("Mul", "biased raised", "doubled"),
        node("Mul", "doubled half", "gelu"),
        node("MatMul", "gelu w2", "narrow"),
        node("Add", "sum narrow", "result"),
        node("ReduceMean", "result", "mean", axes=[1], keepdims=0),
        node("MatMul", "mean w3", "logits"),
        node("Softmax", "logits", "scores", axis=-1),
    ]
    edges = value("tokens", FLOAT, [1, 8, 16]), value("scores", FLOAT, [1, 4])
    return model(nodes, [edges[0]], [edges[1]], tensors(arrays))


NETS: dict[str, Callable[[], onnx.ModelProto]] = {
    "cnn": lambda: conv_model(batch=1),
    "depthwise-se": residual_model,
    "transformer": attention_model,
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """(net, target) → the model in its INT8 bundle; each net is built once for all targets."""
    made: dict[tuple[str, str], Path] = {}
    for net, make in NETS.items():
        folder = tmp_path_factory.mktemp(net)
        source = write(make(), folder / "net.onnx")
        (given,) = onnx.load(source).graph.input
        shape = [d.dim_value for d in given.type.tensor_type.shape.dim][1:]
        data = np.random.default_rng(2).random((40, *shape)).astype(np.float32)
        results = edgepack.build(
            source,
            targets=TARGETS,
            output_dir=folder / "dist",
            precision="int8",
            calibration=data,
            max_drop=20.0,
        )
        for result in results:
            manifest = edgepack.load_manifest(result.bundle)
            made[net, result.target] = result.bundle / manifest.model.path
    return made


def test_there_are_boards_with_tensorrt() -> None:
    assert len(TARGETS) >= 4


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_bundle_is_what_explicit_quantization_takes(
    bundles: dict[tuple[str, str], Path], net: str, target: str
) -> None:
    proto = onnx.load(bundles[net, target])
    assert faults(proto) == []
    assert int32_initializers(proto) == []


@pytest.mark.parametrize("net", NETS)
def test_every_weight_that_is_multiplied_is_quantized(
    bundles: dict[tuple[str, str], Path], net: str
) -> None:
    """The walk would be content with one."""
    graph = onnx.load(bundles[net, TARGETS[0]]).graph
    constants = {i.name for i in graph.initializer}
    heavy = [n for n in graph.node if n.op_type in ("Conv", "MatMul", "Gemm")]
    assert heavy
    assert [n.name for n in heavy if n.input[1] in constants] == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"activation_zero": 3}, "a zero point of int8 [3]"),
        ({"weight_zero": 1}, "a zero point of int8 [1 1 1]"),
        ({"activations": UINT8}, "a zero point of uint8 [0]"),
        ({"integer_bias": True}, "its bias comes out of DequantizeLinear"),
        ({"per_channel": False}, "1 scales for 3 channels"),
        ({"computed_zero": True}, "no constant zero point"),
    ],
)
def test_the_walk_sees_what_is_wrong(change: dict[str, object], said: str) -> None:
    found = faults(quantized_conv(**change))  # type: ignore[arg-type]
    assert any(said in f for f in found), found


def test_the_walk_is_content_with_a_right_graph_and_not_with_a_float_one() -> None:
    assert faults(quantized_conv(activations=INT8)) == []
    assert faults(residual_model()) == ["no weight is quantized"]


def test_the_walk_sees_scales_on_another_axis() -> None:
    proto = quantized_conv()
    weight = next(i for i in proto.graph.initializer if i.name == "w")
    weight.CopyFrom(numpy_helper.from_array(np.ones((3, 3, 3, 3), np.int8), "w"))
    (pair,) = [n for n in proto.graph.node if n.name == "w_dequantize"]
    pair.attribute[0].i = 1
    assert faults(proto) == ["conv: scales lie on axis 1"]
