"""Which tensors are held to be the same."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgepack.artifact import ModelFile
from edgepack.divergence.match import compare, match
from edgepack.divergence.pairs import Match, layouts
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.passes.ort_format import OrtFormat
from tests.divergence.networks import broken, renamed, residual_net, samples, side
from tests.models import FLOAT, model, run_step, tensors, value, wrap

Found = dict[str, tuple[str, str]]


def found(a: onnx.ModelProto, b: onnx.ModelProto, folder: Path) -> Found:
    """A's tensors without the inputs: what they were paired with, and how."""
    pairs = match(side(a, folder, "a"), side(b, folder, "b"))
    return {p.a.name: (p.b.name, p.how.value) for p in pairs if p.a.layer is not None}


def branches(*, seed: int = 0, fan: int = 2) -> onnx.ModelProto:
    """float32 `x` [1, 32] to float32 `y` [1, 32]: branches alike in all but their weights, summed."""
    rng = np.random.default_rng(seed)
    weights = {f"w{i}": rng.normal(size=(32, 32)).astype(np.float32) for i in range(fan)}
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"branch{i}"]) for i in range(fan)]
    nodes.append(helper.make_node("Sum", [f"branch{i}" for i in range(fan)], ["sum"]))
    nodes.append(helper.make_node("Tanh", ["sum"], ["y"]))
    edges = [value("x", FLOAT, [1, 32])], [value("y", FLOAT, [1, 32])]
    return model(nodes, *edges, tensors(weights))


def test_equal_names_are_paired_by_name(tmp_path: Path) -> None:
    proto = residual_net()
    names = [n.output[0] for n in proto.graph.node]
    assert found(proto, proto, tmp_path) == {n: (n, "name") for n in names}


def test_with_every_name_changed_each_tensor_is_found_by_its_place(tmp_path: Path) -> None:
    proto = residual_net(blocks=4)
    other, names = renamed(proto)
    wanted = {n.output[0]: (names[n.output[0]], "structure") for n in proto.graph.node}
    assert found(proto, other, tmp_path) == {**wanted, "probabilities": ("probabilities", "name")}


def test_a_broken_layer_does_not_change_its_place(tmp_path: Path) -> None:
    proto = residual_net()
    other, names = renamed(broken(proto, "net/block_1/expand.w", -3.0))
    assert found(proto, other, tmp_path)["net/block_1/expand"] == (
        names["net/block_1/expand"],
        "structure",
    )


def test_what_lies_around_an_inserted_node_is_found(tmp_path: Path) -> None:
    proto = residual_net()
    edited = copy.deepcopy(proto)
    (at,) = [i for i, n in enumerate(edited.graph.node) if n.name == "net/block_1/depthwise"]
    edited.graph.node[at].input[0] = "inserted"
    edited.graph.node.insert(
        at, helper.make_node("Softsign", ["net/block_1/expand_relu"], ["inserted"])
    )
    other, names = renamed(edited)
    pairs = found(proto, other, tmp_path)
    assert {a: b for a, (b, _) in pairs.items()} == {
        n.output[0]: names[n.output[0]] for n in proto.graph.node
    }
    assert {how for a, (_, how) in pairs.items() if a != "probabilities"} == {"structure"}


def test_branches_alike_in_all_but_weights_are_told_apart_by_their_values(tmp_path: Path) -> None:
    proto = branches(fan=3)
    other, names = renamed(proto)
    # The other order, so that a guess by order would be wrong.
    nodes = [other.graph.node[i] for i in (2, 0, 1, 3, 4)]
    shuffled = copy.deepcopy(other)
    del shuffled.graph.node[:]
    shuffled.graph.node.extend(nodes)
    pairs = found(proto, shuffled, tmp_path)
    for i in range(3):
        assert pairs[f"branch{i}"] == (names[f"branch{i}"], "values")


def test_branches_whose_values_are_gone_are_not_guessed_at(tmp_path: Path) -> None:
    other, _ = renamed(branches(seed=1))
    pairs = found(branches(seed=0), other, tmp_path)
    assert set(pairs) == {"sum", "y"}


def test_two_unrelated_models_share_their_edges_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    weights = {
        "a": rng.normal(size=(16 * 16 * 3, 64)).astype(np.float32),
        "b": rng.normal(size=(64, 10)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Flatten", ["image"], ["net/flat"]),
        helper.make_node("MatMul", ["net/flat", "a"], ["hidden"]),
        helper.make_node("Sigmoid", ["hidden"], ["active"]),
        helper.make_node("MatMul", ["active", "b"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["probabilities"]),
    ]
    edges = [value("image", FLOAT, [1, 3, 16, 16])], [value("probabilities", FLOAT, [1, 10])]
    other = model(nodes, *edges, tensors(weights))
    pairs = found(residual_net(), other, tmp_path)
    # The scores before a Softmax over ten classes are in the same place in both.
    assert set(pairs) <= {"probabilities", "net/logits"}
    compared = compare(side(residual_net(), tmp_path, "again a"), side(other, tmp_path, "again b"))
    assert {"net/flat", "hidden", "active"} <= set(compared.left_of_b)
    assert "net/stem/relu" in compared.left_of_a


def test_numbers_for_names_say_nothing_of_other_operators(tmp_path: Path) -> None:
    def chain(*operators: str) -> onnx.ModelProto:
        names = ["x", *(str(i) for i in range(1, len(operators))), "y"]
        nodes = [helper.make_node(o, [names[i]], [names[i + 1]]) for i, o in enumerate(operators)]
        return model(nodes, [value("x", FLOAT, [1, 64])], [value("y", FLOAT, [1, 64])])

    pairs = found(chain("Cos", "Exp", "Sin"), chain("Exp", "Sin", "Cos", "Exp", "Sin"), tmp_path)
    assert pairs.get("1", ("",))[0] != "1"


@pytest.mark.parametrize("size", [8, 6])
def test_channels_first_and_last_are_the_same_tensor(tmp_path: Path, size: int) -> None:
    """Of size 6 it is a cube: shapes alone do not show that its axes were turned."""
    rng = np.random.default_rng(0)
    kernel = tensors({"k": rng.normal(size=(6, 3, 3, 3)).astype(np.float32)})
    edges = [value("image", FLOAT, [1, 3, size, size])], [value("y", FLOAT, [1, 6])]
    pads = [1] * 4
    nodes = [
        helper.make_node("Conv", ["image", "k"], ["conv"], pads=pads),
        helper.make_node("Tanh", ["conv"], ["tanh"]),
        helper.make_node("ReduceMean", ["tanh"], ["y"], axes=[2, 3], keepdims=0),
    ]
    turned = [
        helper.make_node("Conv", ["image", "k"], ["c1"], pads=pads),
        helper.make_node("Transpose", ["c1"], ["c2"], perm=[0, 2, 3, 1]),
        helper.make_node("Tanh", ["c2"], ["c3"]),
        helper.make_node("ReduceMean", ["c3"], ["y"], axes=[1, 2], keepdims=0),
    ]
    a = side(model(nodes, *edges, kernel), tmp_path, "a")
    b = side(model(turned, *edges, kernel), tmp_path, "b")
    pairs = {p.a.name: (p.b.name, p.axes) for p in match(a, b)}
    assert pairs["tanh"] == ("c3", (0, 3, 1, 2))
    assert pairs["conv"] == ("c1", ())


def test_layouts_turn_back_what_they_say() -> None:
    x = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    last = x.transpose(0, 2, 3, 1)
    assert any(axes and np.array_equal(last.transpose(axes), x) for axes in layouts(last.shape))
    assert any(axes and np.array_equal(x.transpose(axes), last) for axes in layouts(x.shape))


@pytest.fixture
def start(tmp_path: Path) -> ModelFile:
    return wrap(residual_net(), tmp_path, "float")


def test_of_a_quantized_graph_what_the_consumers_see_is_taken(
    start: ModelFile, tmp_path: Path
) -> None:
    made = run_step(Int8(), start, tmp_path, samples()).model
    pairs = list(match(side(start, tmp_path, "a"), side(made, tmp_path, "b")))
    seen = {p.a.name: p.b.tap.name for p in pairs}
    assert seen["net/block_0/expand_relu"] == "net/block_0/expand_relu_DequantizeLinear_Output"
    assert seen["image"] == "image_DequantizeLinear_Output"
    assert seen["probabilities"] == "probabilities"
    assert {p.how for p in pairs} == {Match.NAME}
    assert not compare(side(start, tmp_path, "again a"), side(made, tmp_path, "again b")).left_of_b


@pytest.mark.parametrize("dedicated", [False, True])
def test_each_consumer_may_have_a_pair_of_its_own(
    start: ModelFile, tmp_path: Path, dedicated: bool
) -> None:
    recipe = Int8(symmetric=True, weight_pairs=True, dedicated_pairs=dedicated, quantize_bias=False)
    made = run_step(recipe, start, tmp_path, samples()).model
    pairs = {p.a.name: p for p in match(side(start, tmp_path, "a"), side(made, tmp_path, "b"))}
    assert "DequantizeLinear_Output" in pairs["net/block_1/add"].b.tap.name


def test_of_a_half_graph_each_tensor_is_found_under_its_name(
    start: ModelFile, tmp_path: Path
) -> None:
    made = run_step(Float16(), start, tmp_path).model
    pairs = list(match(side(start, tmp_path, "a"), side(made, tmp_path, "b")))
    names = {n.output[0] for n in onnx.load(start.path).graph.node} | {"image"}
    assert {p.a.name for p in pairs if p.how is Match.NAME} == names


def test_of_fused_integer_operators_each_output_is_found(start: ModelFile, tmp_path: Path) -> None:
    """An .ort of style "fixed": channels last, integers in between, Relu taken into the Conv before it."""
    from edgepack import onnxfile, ortfile

    quantized = run_step(Int8(), start, tmp_path, samples()).model
    path = run_step(OrtFormat(), quantized, tmp_path).model.path
    made = onnxfile.save(ortfile.read(path), tmp_path / "read.onnx", folder=path.parent)
    operators = {n.op_type for n in onnxfile.load(made).graph.node}
    assert {"QLinearConv", "QLinearAdd"} <= operators
    compared = compare(side(start, tmp_path, "a"), side(made, tmp_path, "b"))
    pairs = {p.a.name: p for p, _ in compared.pairs}
    for i in range(3):
        for layer in ("expand_relu", "depthwise_relu", "project", "add"):
            pair = pairs[f"net/block_{i}/{layer}"]
            # onnxruntime calls what it turned by the name of its node: here that of the tensor before the Relu.
            assert pair.b.name.startswith(f"net/block_{i}/{layer.removesuffix('_relu')}")
            assert pair.how is Match.NAME
            assert pair.axes == (0, 3, 1, 2)
    assert min(d.sqnr_db for _, d in compared.pairs) > 20
