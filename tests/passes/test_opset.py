"""Operator sets, up and down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import edgepack
from edgepack import onnxfile
from edgepack.errors import StepError
from edgepack.passes.opset import Opset
from edgepack.passes.step import StepResult
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

X = np.random.default_rng(3).normal(size=(2, 3)).astype(np.float32)


def one_node(
    operator: str,
    opset: int,
    *,
    constants: Sequence[tuple[str, np.ndarray]] = (),
    domain: str = "",
    **attributes: object,
) -> onnx.ModelProto:
    """float32 `x` [2, 3] through one operator, the node `it`, to `y`."""
    inputs = ["x", *(name for name, _ in constants)]
    node = helper.make_node(operator, inputs, ["y"], "it", domain=domain, **attributes)
    edges = [value("x", FLOAT, [2, 3])], [value("y", FLOAT, [2, "n"])]
    domains = [domain] if domain else []
    return model([node], *edges, tensors(dict(constants)), opset=opset, domains=domains)


def taken(proto: onnx.ModelProto, folder: Path, **options: int) -> StepResult:
    return run_step(Opset(**options), wrap(proto, folder), folder)


ONES = ("scale", np.ones(3, np.float32))
NORM = [(n, np.full(3, v, np.float32)) for n, v in (("s", 2), ("b", 1), ("m", 0.5), ("v", 4))]
AXES = ("axes", np.array([1]))


@pytest.mark.parametrize(
    ("proto", "options", "to"),
    [
        (one_node("ReduceMean", 13, axes=[1]), {"minimum": 18}, 18),
        (one_node("ReduceMean", 18, constants=[AXES]), {"maximum": 17}, 17),
        (one_node("Softmax", 11, axis=1), {"minimum": 13}, 13),
        (one_node("Dropout", 9), {"minimum": 13}, 13),
        (one_node("Relu", 7), {"minimum": 9, "maximum": 20}, 9),
        (one_node("Relu", 24), {"minimum": 9, "maximum": 20}, 20),
        # Operators that only take more types in the newer set, which onnx's converter has no word for.
        (one_node("HardSwish", 14), {"maximum": 13}, 13),
        (one_node("BatchNormalization", 15, constants=NORM), {"maximum": 14}, 14),
        (one_node("Pad", 21, constants=[("pads", np.array([0, 1, 0, 1]))]), {"maximum": 17}, 17),
        (one_node("HardSigmoid", 22), {"maximum": 17}, 17),
        # Operators that the older set does not have, and that ONNX defines by others.
        (one_node("Gelu", 20), {"maximum": 17}, 17),
        (one_node("Mish", 18), {"maximum": 17}, 17),
        # By others with an attribute of its own in them, which it leaves at its default.
        (one_node("Swish", 24), {"maximum": 23}, 23),
        (one_node("LayerNormalization", 17, constants=[ONES]), {"maximum": 16}, 16),
    ],
    ids=lambda p: p.graph.node[0].op_type if isinstance(p, onnx.ModelProto) else "",
)
def test_the_answers_stay_in_another_set(
    proto: onnx.ModelProto, options: dict[str, int], to: int, tmp_path: Path
) -> None:
    start = wrap(proto, tmp_path)
    result = run_step(Opset(**options), start, tmp_path)
    assert result.changed
    assert result.facts == {"from": start.opset, "to": to}
    assert result.model.opset == to
    onnx.checker.check_model(str(result.model.path))
    assert result.model.inputs == start.inputs
    before, after = (answers_of(m, x=X)["y"] for m in (start, result.model))
    assert np.allclose(before, after, atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"minimum": 17}, {"maximum": 17}, {"maximum": 20}])
def test_a_model_within_the_range_is_left_alone(options: dict[str, int], tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    result = run_step(Opset(**options), start, tmp_path)
    assert not result.changed
    assert result.model is start
    assert result.facts == {"from": 17, "to": 17}


def test_the_files_own_version_is_lowered_to_what_the_set_came_with(tmp_path: Path) -> None:
    proto = conv_model()
    proto.ir_version = 10
    result = taken(proto, tmp_path, maximum=20)
    assert onnx.load(result.model.path).ir_version == 9
    assert result.facts == {"from": 17, "to": 17}
    assert onnx.load(taken(proto, tmp_path, minimum=9).model.path).ir_version == 10


def test_subgraphs_are_converted_too(tmp_path: Path) -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(op, ["x"], [f"{op}_y"], axes=[1])],
            op,
            [],
            [value(f"{op}_y", FLOAT, [2, 1])],
        )
        for op in ("ReduceMean", "ReduceMax")
    ]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1])
    inputs = [value("x", FLOAT, [2, 3]), value("c", BOOL, [])]
    start = wrap(model([node], inputs, [value("y", FLOAT, [2, 1])]), tmp_path)
    made = run_step(Opset(minimum=18), start, tmp_path).model
    for c in (True, False):
        before, after = (answers_of(m, x=X, c=np.array(c))["y"] for m in (start, made))
        assert np.array_equal(before, after)


@pytest.mark.parametrize("sizes", [None, [1, 1, 1]])
def test_a_split_finds_its_parts_in_an_older_set(sizes: list[int] | None, tmp_path: Path) -> None:
    given = {} if sizes else {"num_outputs": 3}
    names = ["x"] + ["sizes"] * bool(sizes)
    node = helper.make_node("Split", names, ["a", "b", "c"], axis=1, **given)
    constants = tensors({"sizes": np.array(sizes)} if sizes else {})
    edges = [value("x", FLOAT, [2, 3])], [value(n, FLOAT, [2, 1]) for n in "abc"]
    start = wrap(model([node], *edges, constants, opset=18), tmp_path)
    made = run_step(Opset(maximum=17), start, tmp_path).model
    onnx.checker.check_model(str(made.path))
    before, after = (answers_of(m, x=X) for m in (start, made))
    assert all(np.array_equal(before[n], after[n]) for n in "abc")


def test_operators_of_other_domains_stay(tmp_path: Path) -> None:
    start = wrap(one_node("Gelu", 17, domain="com.microsoft"), tmp_path)
    made = run_step(Opset(minimum=18), start, tmp_path).model
    assert onnxfile.node_domains(onnxfile.load(made)) == {"com.microsoft"}
    assert np.array_equal(answers_of(made, x=X)["y"], answers_of(start, x=X)["y"])


@pytest.mark.parametrize(
    ("proto", "maximum", "said"),
    [
        (one_node("Hardmax", 13), 12, "Hardmax ×1 (it) cannot be taken from operator set 13 to 12"),
        (one_node("RMSNormalization", 23, constants=[ONES]), 17, "RMSNormalization ×1 (it)"),
        (one_node("IsInf", 20), 9, "IsInf ×1 (it)"),
    ],
    ids=["Hardmax", "RMSNormalization", "IsInf"],
)
def test_what_cannot_be_taken_there_is_named_with_its_nodes(
    proto: onnx.ModelProto, maximum: int, said: str, tmp_path: Path
) -> None:
    with pytest.raises(StepError) as caught:
        taken(proto, tmp_path, maximum=maximum)
    assert said in caught.value.cause
    assert f"operator set {maximum}" in caught.value.fix


def test_a_set_that_onnx_does_not_know_yet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="newer than onnx"):
        taken(conv_model(), tmp_path, minimum=10_000)


def test_weights_and_their_order_stay(tmp_path: Path) -> None:
    start = wrap(conv_model(features=512), tmp_path)
    made = run_step(Opset(minimum=20), start, tmp_path).model
    before, after = (
        {i.name: numpy_helper.to_array(i) for i in onnx.load(m.path).graph.initializer}
        for m in (start, made)
    )
    assert list(before) == list(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    protos = [one_node("Gelu", 20) for _ in range(2)]
    assert len({taken(p, tmp_path, maximum=17).model.sha256 for p in protos}) == 1


def test_a_target_gets_the_set_that_it_reads(tmp_path: Path) -> None:
    source = write(one_node("Gelu", 20), tmp_path / "gelu.onnx")
    for target, opset in (("jetson-xavier", 17), ("jetson-orin", 20), ("web", 20)):
        (result,) = edgepack.build(
            source, targets=[target], precision="fp32", output_dir=tmp_path, shapes={"x": (2, 3)}
        )
        manifest = edgepack.load_manifest(result.bundle)
        assert manifest.model.opset == opset
        assert all(p["passed"] for s in manifest.build.steps for p in s.parity)


def test_a_model_of_an_old_set_can_be_quantized(tmp_path: Path) -> None:
    proto = conv_model(batch=1)
    proto.opset_import[0].version = 9
    source = write(proto, tmp_path / "old.onnx")
    (result,) = edgepack.build(
        source, targets=["jetson-orin"], calibration=images(8), output_dir=tmp_path
    )
    assert result.precision == "int8"
    assert edgepack.load_manifest(result.bundle).model.opset == 13
