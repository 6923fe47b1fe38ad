"""The step: subgraphs, shared weights, weights apart, what is left alone, a real model, and what the manifest says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import edgepack
from edgepack import onnxfile, weights
from edgepack.artifact import ModelFile
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.passes.registry import make_step
from edgepack.passes.shapes import Shapes
from edgepack.passes.simplify import Simplify
from edgepack.passes.tune.graph import Graph
from edgepack.passes.tune.rewrites import REWRITES
from edgepack.passes.tune.step import Tune
from edgepack.targets import list_targets
from tests.conftest import need
from tests.models import (
    BOOL,
    FLOAT,
    answers_of,
    conv_model,
    images,
    model,
    run_step,
    tensors,
    value,
    wrap,
    write,
)
from tests.passes.tune.trial import graph, node, random
from tests.zoo import packages
from tests.zoo.entries import read_entries

ALL = Tune(rewrites=tuple(REWRITES))
PRELU = [node("Conv", "x kernel", "c"), node("PRelu", "c slopes", "y")]


def prelu_model() -> onnx.ModelProto:
    return graph(PRELU, {"kernel": random(8, 4, 3, 3), "slopes": random(8, 1, 1)})


def names_made(made: ModelFile) -> list[str]:
    return [n.op_type for n in onnx.load(made.path).graph.node]


def test_constants_are_those_of_nodes_too(tmp_path: Path) -> None:
    nodes = [
        node("Constant", "", "tensor", value=numpy_helper.from_array(np.float32([1, 2]))),
        node("Constant", "", "floats", value_floats=[1.0, 2.0]),
        node("Add", "tensor floats", "sum"),
        node("Add", "x sum", "y"),
    ]
    edges = [value("x", FLOAT, [2])], [value("y", FLOAT, [2])]
    held = Graph(model(nodes, *edges), tmp_path)
    for name in ("tensor", "floats"):
        assert np.array_equal(held.floats(name), [1, 2])
    assert [held.is_constant(name) for name in ("tensor", "sum", "x")] == [True, True, False]
    assert held.value("sum") is None


def test_what_a_subgraph_takes_stays(tmp_path: Path) -> None:
    """`t` would be renamed away if the If did not count as a taker."""
    inner = helper.make_graph([node("Neg", "u", "a")], "then", [], [value("a", FLOAT, None)])
    other = helper.make_graph([node("Identity", "u", "b")], "else", [], [value("b", FLOAT, None)])
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Transpose", "t", "u", perm=[0, 3, 1, 2]),
        node("Relu", "u", "z"),
        helper.make_node("If", ["which"], ["y"], then_branch=inner, else_branch=other),
    ]
    shape = [1, 2, 3, 4]
    proto = model(
        nodes,
        [value("x", FLOAT, shape), value("which", BOOL, [])],
        [value("y", FLOAT, shape), value("z", FLOAT, shape)],
    )
    start = wrap(proto, tmp_path)
    made = run_step(ALL, start, tmp_path).model
    for which in (True, False):
        feed = {"x": random(*shape), "which": np.array(which)}
        before, after = answers_of(start, **feed), answers_of(made, **feed)
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_weight_that_two_share_is_changed_for_one_alone(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "x by", "m"),
        node("Conv", "m kernel", "y"),
        node("Conv", "x kernel", "z"),
    ]
    constants = {"by": np.float32(0.5), "kernel": random(8, 4, 3, 3)}
    start = wrap(graph(nodes, constants, outputs=("y", "z")), tmp_path)
    result = run_step(Tune(rewrites=("affine",)), start, tmp_path)
    assert result.facts == {"affine": 1}
    x = random(1, 4, 6, 6)
    before, after = answers_of(start, x=x), answers_of(result.model, x=x)
    assert all(np.allclose(before[n], after[n], atol=1e-6) for n in before)


def test_weights_apart_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", 1000)
    start = wrap(prelu_model(), tmp_path)
    assert start.beside
    result = run_step(ALL, start, tmp_path)
    assert result.facts["prelu"] == 1
    assert result.model.beside
    x = random(1, 4, 6, 6)
    assert np.allclose(answers_of(start, x=x)["y"], answers_of(result.model, x=x)["y"], atol=1e-5)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    start = wrap(prelu_model(), tmp_path)
    one, other = (run_step(ALL, start, tmp_path).model for _ in range(2))
    assert one.path != other.path
    assert one.sha256 == other.sha256


def test_where_nothing_applies_the_model_is_the_same_file(tmp_path: Path) -> None:
    start = wrap(graph([node("Relu", "x", "y")], {}), tmp_path)
    result = run_step(ALL, start, tmp_path)
    assert (result.changed, result.model) == (False, start)
    assert result.facts == dict.fromkeys(REWRITES, 0)


def test_half_and_quantized_models_are_left_alone(tmp_path: Path) -> None:
    plain = run_step(Shapes(), wrap(conv_model(), tmp_path), tmp_path).model
    plain = run_step(Simplify(), plain, tmp_path).model
    quantized = run_step(Int8(), plain, tmp_path, images(4)).model
    half = wrap(
        model(
            [helper.make_node("Mul", ["x", "w"], ["y"])],
            [value("x", TensorProto.FLOAT16, [2])],
            [value("y", TensorProto.FLOAT16, [2])],
            tensors({"w": np.ones(2, np.float16)}),
        ),
        tmp_path,
        "half",
    )
    for start, why in ((quantized, "quantized"), (half, "float16")):
        result = run_step(ALL, start, tmp_path)
        assert not result.changed
        assert why in result.facts["skipped"]


def test_what_is_made_of_it_can_still_be_halved_and_quantized(tmp_path: Path) -> None:
    start = wrap(prelu_model(), tmp_path)
    made = run_step(ALL, start, tmp_path).model
    x = random(4, 4, 6, 6)
    for step in (Float16(), Int8(activations="uint8")):
        after = run_step(step, made, tmp_path, x).model
        expected, got = (answers_of(m, x=x[:1])["y"] for m in (start, after))
        assert np.abs(expected - got).max() < 0.03 * np.abs(expected).max()


def test_a_rewrite_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="no rewrite 'prellu'; did you mean 'prelu'"):
        make_step("tune", {"rewrites": ["prellu"]})


def test_every_rewrite_serves_some_target() -> None:
    steps = [
        make_step(s.name, s.options)
        for profile in list_targets()
        for s in (*profile.steps, *(s for p in profile.precisions.values() for s in p.steps))
    ]
    assert {name for s in steps if isinstance(s, Tune) for name in s.rewrites} == set(REWRITES)


def test_a_real_model_of_prelus_keeps_its_answers(tmp_path: Path) -> None:
    (entry,) = [e for e in read_entries() if e.name == "mediapipe-face-landmark"]
    source = need(packages.place(entry), "models.sh")
    converted = edgepack.convert(source, tmp_path / "face.onnx").model
    start = run_step(Simplify(), run_step(Shapes(), converted, tmp_path).model, tmp_path).model
    result = run_step(ALL, start, tmp_path)
    assert result.facts["prelu"] == names_made(start).count("PRelu") == 23
    assert "PRelu" not in names_made(result.model)
    spec = start.inputs[0]
    feed = {spec.name: random(*spec.shape)}
    before, after = answers_of(start, **feed), answers_of(result.model, **feed)
    for name, answer in before.items():
        assert np.abs(answer - after[name]).max() <= 1e-5 * max(1.0, np.abs(answer).max())


def test_the_manifest_says_what_was_done_how_often(tmp_path: Path) -> None:
    source = write(prelu_model(), tmp_path / "tiny.onnx")
    (result,) = edgepack.build(source, targets=["linux-x64"], output_dir=tmp_path)
    steps = edgepack.load_manifest(result.bundle).build.steps
    shared, of_fp32 = (s for s in steps if s.step == "tune")
    assert shared.changed
    assert shared.facts["prelu"] == 1
    assert "prelu" in shared.options["rewrites"]
    assert (of_fp32.changed, of_fp32.facts) == (False, {"blocks": 0, "clamps": 0})
    (place,) = (result.bundle / "model").iterdir()
    held = onnx.load(place)
    assert "PRelu" not in {n.op_type for n in held.graph.node}
    assert {numpy_helper.to_array(i).dtype.name for i in held.graph.initializer} == {"float32"}
    assert onnxfile.node_domains(held) <= set(onnxfile.ONNX_DOMAINS)
