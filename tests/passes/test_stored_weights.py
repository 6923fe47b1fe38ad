"""Weights in fewer bits: how large, which nodes, what they expand to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.errors import StepError
from edgepack.passes.float16 import Float16
from edgepack.passes.float16_weights import Float16Weights
from edgepack.passes.int4_weights import Int4Weights, packed
from edgepack.passes.int8_weights import Int8Weights
from edgepack.passes.ort_format import OrtFormat
from edgepack.passes.step import Step
from edgepack.passes.stored import blocks, quantized
from tests.models import (
    FLOAT,
    answers_of,
    conv_model,
    images,
    model,
    run_step,
    tensors,
    value,
    wrap,
)
from tests.weighty import token_rows, weighty_model


@pytest.fixture
def weighty(tmp_path: Path) -> ModelFile:
    return wrap(weighty_model(), tmp_path)


def operators(made: ModelFile) -> Counter[str]:
    return Counter(n.op_type for n in onnxfile.load(made).graph.node)


def opened(made: ModelFile, folder: Path) -> onnx.ModelProto:
    """The graph that a session of onnxruntime runs, at its lowest level of optimization."""
    options = onnxruntime.SessionOptions()
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.graph_optimization_level = level
    options.optimized_model_filepath = str(folder / "opened.onnx")
    onnxruntime.InferenceSession(str(made.path), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "opened.onnx")


def expanded(made: ModelFile, folder: Path, name: str) -> np.ndarray:
    """A weight as the session has it, by the name it had before."""
    proto = onnx.load(made.path)
    node = next(n for n in proto.graph.node if name in n.output)
    proto.graph.output.append(helper.make_tensor_value_info(name, FLOAT, None))
    (folder / "with-weight.onnx").write_bytes(proto.SerializeToString())
    session = onnxruntime.InferenceSession(folder / "with-weight.onnx")
    feed = {i.name: np.zeros(i.shape, np.int32) for i in session.get_inputs()}
    assert node
    return np.asarray(session.run([name], feed)[0])


def weight(name: str) -> np.ndarray:
    tensor = next(i for i in weighty_model().graph.initializer if i.name == name)
    return numpy_helper.to_array(tensor)


@pytest.mark.parametrize(
    ("step", "share"),
    [(Float16Weights(), 0.51), (Int8Weights(), 0.28), (Int4Weights(), 0.46)],
    ids=lambda v: getattr(v, "name", ""),
)
def test_the_file_is_a_fraction_of_float32s(
    weighty: ModelFile, tmp_path: Path, step: Step, share: float
) -> None:
    made = run_step(step, weighty, tmp_path).model
    assert made.size_bytes <= share * weighty.size_bytes


@pytest.mark.parametrize(
    ("step", "off"),
    [
        (Float16Weights(), 1e-3),
        (Int8Weights(), 0.03),
        (Int8Weights(block=32), 0.03),
        (Int8Weights(per_channel=False), 0.06),
        (Int4Weights(), 0.3),
        (Int4Weights(rest="int8", block=16), 0.3),
    ],
    ids=repr,
)
def test_answers_are_near_float32s(
    weighty: ModelFile, tmp_path: Path, step: Step, off: float
) -> None:
    made = run_step(step, weighty, tmp_path).model
    tokens = token_rows(1)
    wanted = answers_of(weighty, tokens=tokens)["scores"]
    got = answers_of(made, tokens=tokens)["scores"]
    assert 0 < np.abs(got - wanted).max() <= off * np.abs(wanted).max()


@pytest.mark.parametrize("step", [Float16Weights(), Int8Weights(), Int8Weights(block=32)], ids=repr)
def test_a_session_runs_the_float_graph(weighty: ModelFile, tmp_path: Path, step: Step) -> None:
    made = run_step(step, weighty, tmp_path).model
    session = opened(made, tmp_path)
    plain = opened(weighty, tmp_path)
    assert [n.op_type for n in session.graph.node] == [n.op_type for n in plain.graph.node]
    kinds = {t.data_type for t in session.graph.initializer if np.prod(t.dims) > 256}
    assert kinds == {onnx.TensorProto.FLOAT}


@pytest.mark.parametrize("style", ["fixed", "runtime"])
def test_an_ort_file_would_write_float32_out_again(
    weighty: ModelFile, tmp_path: Path, style: str
) -> None:
    made = run_step(Int8Weights(), weighty, tmp_path).model
    ort = run_step(OrtFormat(style=style), made, tmp_path).model  # type: ignore[arg-type]
    assert ort.size_bytes > 0.95 * weighty.size_bytes


def test_int8_has_a_scale_for_each_channel_and_is_off_by_half_of_it(
    weighty: ModelFile, tmp_path: Path
) -> None:
    made = run_step(Int8Weights(), weighty, tmp_path).model
    stored = {i.name: tuple(i.dims) for i in onnxfile.load(made).graph.initializer}
    assert stored["kernel_scale"] == (128, 1, 1, 1)
    assert stored["up_scale"] == (1, 128)
    assert stored["head_scale"] == (10, 1)
    assert stored["table_scale"] == (256, 1)
    for name, axes in {"kernel": (1, 2, 3), "up": (0,), "head": (1,), "table": (1,)}.items():
        exact = weight(name)
        scale = np.abs(exact).max(axis=axes, keepdims=True) / 127
        assert (np.abs(expanded(made, tmp_path, name) - exact) <= scale * (0.5 + 1e-3)).all()


def test_what_is_only_added_is_stored_as_float16_and_what_is_small_not_at_all(
    weighty: ModelFile, tmp_path: Path
) -> None:
    made = run_step(Int8Weights(), weighty, tmp_path)
    kinds = {i.name: i.data_type for i in onnxfile.load(made.model).graph.initializer}
    assert kinds["places_float16"] == onnx.TensorProto.FLOAT16
    assert kinds["bias"] == onnx.TensorProto.FLOAT
    assert made.facts == {"int8_weights": 4, "float16_weights": 1}


def test_layers_kept_in_float_are_stored_as_float16(weighty: ModelFile, tmp_path: Path) -> None:
    step = Int8Weights(float_nodes=("mix", "score"))
    made = run_step(step, weighty, tmp_path)
    assert made.facts == {"int8_weights": 2, "float16_weights": 3}
    exact = weight("kernel")
    np.testing.assert_array_equal(
        expanded(made.model, tmp_path, "kernel"), exact.astype(np.float16)
    )


def test_blocks_have_a_scale_each() -> None:
    assert blocks((64, 128), (0,), 16) == ((4, 16, 128), (1,))
    assert blocks((128, 32, 3, 3), (1, 2, 3), 32) == ((128, 9, 32), (2,))
    # No multiple of a block, one block alone, or axes that are no neighbours: one scale a channel.
    assert blocks((60, 128), (0,), 16) == ((60, 128), (0,))
    assert blocks((16, 128), (0,), 16) == ((16, 128), (0,))
    assert blocks((32, 8, 4, 4), (0, 2, 3), 16) == ((32, 8, 4, 4), (0, 2, 3))


def test_a_channel_of_zeros_stays_zero() -> None:
    values = np.zeros((2, 8), np.float32)
    values[1, 3] = -2.0
    integers, scale = quantized(values, (1,))
    np.testing.assert_array_equal(integers * scale, values)


@pytest.mark.parametrize(
    ("node", "shape", "axes"),
    [
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"]), (16, 8, 3, 3), (0, 2, 3)),
        (helper.make_node("ConvTranspose", ["x", "w"], ["y"], group=2), (16, 8, 3, 3), (2, 3)),
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (4, 16, 32), (1,)),
        (helper.make_node("MatMul", ["w", "x"], ["y"]), (16, 32), (1,)),
        (helper.make_node("Gemm", ["x", "w"], ["y"]), (16, 32), (0,)),
        (helper.make_node("Gemm", ["w", "x"], ["y"], transA=1), (16, 32), (0,)),
        (helper.make_node("Gather", ["w", "x"], ["y"], axis=1), (16, 32), (0,)),
        (helper.make_node("LSTM", ["x", "w", "r"], ["y"]), (2, 64, 16), (2,)),
        (helper.make_node("Conv", ["x", "w"], ["y"]), (256, 1, 1, 3), None),
        (helper.make_node("Add", ["x", "w"], ["y"]), (16, 32), None),
    ],
    ids=lambda v: v.op_type if isinstance(v, onnx.NodeProto) else "",
)
def test_channels_are_where_the_operator_has_its_outputs(
    node: onnx.NodeProto, shape: tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    from edgepack.passes.int8_weights import summed_axes
    from edgepack.passes.stored import Weight

    tensor = helper.make_tensor("w", FLOAT, shape, np.zeros(int(np.prod(shape)), np.float32))
    place = list(node.input).index("w")
    assert summed_axes(Weight(tensor=tensor, takers=((node, place),))) == axes


def test_int4_is_what_onnxruntimes_own_quantizer_makes() -> None:
    from onnxruntime.capi._pybind_state import quantize_matmul_4bits

    weight = np.random.default_rng(0).normal(size=(128, 48)).astype(np.float32)
    weight[32:64, 5] = 0
    integers, scale = np.zeros((48, 4, 16), np.uint8), np.zeros((48, 4), np.float32)
    zero = np.zeros((48, 2), np.uint8)
    quantize_matmul_4bits(integers, weight, scale, zero, 32, 48, 128, True)
    ours, our_scale = packed(weight.T, 32)
    np.testing.assert_array_equal(ours, integers)
    np.testing.assert_array_equal(our_scale, scale.reshape(-1))


def test_int4_takes_products_and_leaves_the_rest(weighty: ModelFile, tmp_path: Path) -> None:
    made = run_step(Int4Weights(), weighty, tmp_path)
    assert made.facts == {"int4_products": 2, "int8_weights": 0, "float16_weights": 3}
    found = operators(made.model)
    assert (found["MatMulNBits"], found["MatMul"], found["Gemm"], found["Conv"]) == (2, 0, 0, 1)
    assert {o.domain for o in onnxfile.load(made.model).opset_import} == {"", "com.microsoft"}


def test_int4_leaves_products_that_it_cannot_do(tmp_path: Path) -> None:
    ones = {
        "odd": np.ones((30, 64), np.float32),
        "scaled": np.ones((64, 64), np.float32),
        "fine": np.ones((64, 64), np.float32),
    }
    proto = model(
        [
            helper.make_node("MatMul", ["x", "odd"], ["a"], "a"),
            helper.make_node("Gemm", ["a", "scaled"], ["b"], "b", alpha=0.5),
            helper.make_node("MatMul", ["b", "fine"], ["y"], "y"),
        ],
        [value("x", FLOAT, [4, 30])],
        [value("y", FLOAT, [4, 64])],
        tensors(ones),
    )
    start = wrap(proto, tmp_path)
    made = run_step(Int4Weights(), start, tmp_path).model
    assert [n.op_type for n in onnxfile.load(made).graph.node if n.op_type != "Cast"] == [
        "MatMul",
        "Gemm",
        "MatMulNBits",
    ]
    x = np.ones((4, 30), np.float32)
    np.testing.assert_allclose(answers_of(made, x=x)["y"], answers_of(start, x=x)["y"], rtol=1e-3)


def test_a_weight_beyond_float16_stays_float32(tmp_path: Path) -> None:
    proto = weighty_model()
    table = next(i for i in proto.graph.initializer if i.name == "table")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table) * 1e5, "table"))
    made = run_step(Float16Weights(), wrap(proto, tmp_path), tmp_path)
    assert made.facts == {"float16_weights": 4, "beyond_float16": 1}
    assert "table" in {i.name for i in onnxfile.load(made.model).graph.initializer}


@pytest.mark.parametrize("step", [Float16Weights(), Int8Weights(), Int4Weights()], ids=repr)
def test_the_same_model_gives_the_same_bytes(
    weighty: ModelFile, tmp_path: Path, step: Step
) -> None:
    made = [run_step(step, weighty, tmp_path).model.path.read_bytes() for _ in range(2)]
    assert made[0] == made[1]


@pytest.mark.parametrize("step", [Float16Weights(), Int8Weights(), Int4Weights()], ids=repr)
def test_what_is_quantized_or_half_already_is_refused(
    weighty: ModelFile, tmp_path: Path, step: Step
) -> None:
    halved = run_step(Float16(), weighty, tmp_path).model
    with pytest.raises(StepError, match="already") as caught:
        run_step(step, halved, tmp_path)
    assert "--precision fp32" in caught.value.fix


@pytest.mark.parametrize("step", [Int8Weights(smallest=10**6), Int4Weights(block=256)], ids=repr)
def test_a_model_without_such_weights_is_refused(
    weighty: ModelFile, tmp_path: Path, step: Step
) -> None:
    with pytest.raises(StepError, match="no weight of this model") as caught:
        run_step(step, weighty, tmp_path)
    assert "--precision" in caught.value.fix


def test_weights_that_a_loop_body_takes_are_found_by_their_name(tmp_path: Path) -> None:
    """A body sees what the expansion makes under the weight's old name."""
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["inner"], "inner")],
        "then",
        [],
        [value("inner", FLOAT, None)],
    )
    proto = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["outer"], "outer"),
            helper.make_node("If", ["yes"], ["y"], "if", then_branch=body, else_branch=body),
            helper.make_node("Add", ["outer", "y"], ["z"], "add"),
        ],
        [value("x", FLOAT, [2, 64])],
        [value("z", FLOAT, [2, 64])],
        tensors({"w": np.eye(64, dtype=np.float32), "yes": np.array(True)}),
    )
    start = wrap(proto, tmp_path)
    x = np.random.default_rng(0).normal(size=(2, 64)).astype(np.float32)
    for step in (Int8Weights(), Float16Weights()):
        made = run_step(step, start, tmp_path).model
        np.testing.assert_allclose(answers_of(made, x=x)["z"], 2 * x, atol=1e-5)
    with pytest.raises(StepError, match="no weight of this model can be 4 bits"):
        run_step(Int4Weights(), start, tmp_path)


def test_small_nets_lose_nothing_but_size(tmp_path: Path) -> None:
    start = wrap(conv_model(batch=1, features=64), tmp_path)
    made = run_step(Int8Weights(), start, tmp_path).model
    image = images(1)
    wanted = answers_of(start, image=image)["probabilities"]
    np.testing.assert_allclose(answers_of(made, image=image)["probabilities"], wanted, atol=0.02)
