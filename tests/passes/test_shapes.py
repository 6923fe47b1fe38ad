"""Free dimensions and their sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edgepack.artifact import TensorSpec
from edgepack.errors import ShapeError, UsageError
from edgepack.passes.plan import ShapeRequest, make_plans
from edgepack.passes.shapes import Shapes
from edgepack.targets import load_target
from tests.models import (
    answers_of,
    conv_model,
    free_size_model,
    images,
    run_step,
    two_input_model,
    wrap,
)

FREE = TensorSpec(name="image", dtype="float32", shape=("batch", "height", "width", 3))
LEFT = TensorSpec(name="left", dtype="float32", shape=("batch", "length"))
RIGHT = TensorSpec(name="right", dtype="int64", shape=("batch", "length"))


def resolved(step: Shapes, *specs: TensorSpec) -> list[tuple[int | str, ...]]:
    return [s.shape for s in step.resolve(specs)]


def refusal(step: Shapes, *specs: TensorSpec) -> ShapeError:
    with pytest.raises(ShapeError) as caught:
        step.resolve(specs)
    return caught.value


def fixed(name: str, *sizes: int | str) -> tuple[tuple[str, tuple[int | str, ...]], ...]:
    return ((name, sizes),)


def test_a_free_batch_becomes_one() -> None:
    assert resolved(Shapes(), FREE) == [(1, "height", "width", 3)]


@pytest.mark.parametrize("name", ["batch", "batch_size", "N", "n", "bs", "B"])
def test_a_first_dimension_named_like_a_batch_is_one(name: str) -> None:
    assert resolved(Shapes(batch=4), TensorSpec(name="x", dtype="int8", shape=(name, 3))) == [
        (4, 3)
    ]


def test_a_first_dimension_of_another_name_is_no_batch() -> None:
    spec = TensorSpec(name="x", dtype="int8", shape=("tokens", 3))
    assert resolved(Shapes(), spec) == [("tokens", 3)]


def test_a_batch_that_is_left_free_stays_free() -> None:
    assert resolved(Shapes(batch=None), FREE) == [FREE.shape]


def test_given_sizes_are_filled_in_and_a_question_mark_leaves_free() -> None:
    assert resolved(Shapes(fixed=fixed("image", 2, 64, "?", 3)), FREE) == [(2, 64, "width", 3)]


def test_one_name_gets_one_size_in_every_input() -> None:
    assert resolved(Shapes(fixed=fixed("left", 2, 7)), LEFT, RIGHT) == [(2, 7), (2, 7)]


def test_two_sizes_for_one_name_are_refused() -> None:
    error = refusal(Shapes(fixed=(*fixed("left", 1, 7), *fixed("right", 1, 8))), LEFT, RIGHT)
    assert "'length' is given both 7 and 8" in error.cause


def test_a_batch_beside_a_shape_of_another_batch_is_refused() -> None:
    request = ShapeRequest(shapes=fixed("left", 2, 7), batch=4)
    (plan,) = make_plans(
        load_target("web"), requested="fp32", calibrated=False, shapes=request, atol=None, rtol=None
    )
    with pytest.raises((ShapeError, UsageError), match="4"):
        plan.shapes.resolve((LEFT, RIGHT))


def test_an_unknown_input_is_refused_and_the_known_are_listed() -> None:
    error = refusal(Shapes(fixed=fixed("img", 1)), LEFT, RIGHT)
    assert "--shape img" in error.cause
    assert "left: float32 [batch, length]; right: int64 [batch, length]" in error.fix


def test_a_wrong_rank_is_refused_and_the_form_shown() -> None:
    error = refusal(Shapes(fixed=fixed("image", 64, 64, 3)), FREE)
    assert "3 dimensions" in error.cause
    assert "batchxheightxwidthx3" in error.fix


@pytest.mark.parametrize("size", [4, "?"])
def test_a_size_the_model_does_not_have_is_refused(size: int | str) -> None:
    error = refusal(Shapes(fixed=fixed("image", 1, 8, 8, size)), FREE)
    assert "axis 3 is fixed to 3 by the model" in error.cause


def test_a_static_target_lists_every_free_dimension_and_the_options_to_give() -> None:
    error = refusal(Shapes(static=True, batch=None), FREE, LEFT)
    for part in ("axis 0 (batch)", "axis 1 (height)", "axis 2 (width)", "left [batch, length]"):
        assert part in error.cause
    assert "--shape 'image=?x?x?x3' --shape 'left=?x?'" in error.fix


def test_a_static_target_takes_a_shape_without_free_dimensions() -> None:
    assert resolved(Shapes(static=True, fixed=fixed("image", 1, 8, 8, 3)), FREE) == [(1, 8, 8, 3)]


def test_output_shapes_become_static_too(tmp_path: Path) -> None:
    result = run_step(Shapes(batch=2), wrap(conv_model(), tmp_path), tmp_path)
    assert result.changed
    assert result.facts == {"inputs": {"image": [2, 8, 8, 1]}}
    assert [s.shape for s in (*result.model.inputs, *result.model.outputs)] == [
        (2, 8, 8, 1),
        (2, 10),
    ]


def test_an_output_shape_under_a_name_of_its_own_becomes_static_too(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "unk__77"
    made = run_step(Shapes(batch=2), wrap(proto, tmp_path), tmp_path).model
    assert made.outputs[0].shape == (2, 10)


def test_inner_shapes_become_static_too(tmp_path: Path) -> None:
    result = run_step(Shapes(batch=2), wrap(conv_model(), tmp_path), tmp_path)
    inner = {v.name: v for v in onnx.load(result.model.path).graph.value_info}
    assert [d.dim_value for d in inner["conv"].type.tensor_type.shape.dim] == [2, 8, 8, 8]


def test_answers_stay_as_they_were(tmp_path: Path) -> None:
    start = wrap(conv_model(), tmp_path)
    made = run_step(Shapes(batch=2), start, tmp_path).model
    before, after = (answers_of(m, image=images(2)) for m in (start, made))
    assert np.array_equal(before["probabilities"], after["probabilities"])


def test_a_dimension_that_stays_free_works_at_several_sizes(tmp_path: Path) -> None:
    step = Shapes(batch=1, fixed=fixed("image", "?", 8, "?", 3))
    made = run_step(step, wrap(free_size_model(), tmp_path), tmp_path).model
    assert made.inputs[0].shape == (1, 8, "width", 3)
    for width in (5, 9):
        x = np.ones((1, 8, width, 3), np.float32)
        assert answers_of(made, image=x)["mean"].tolist() == [[1.0, 1.0, 1.0]]


def test_several_inputs_and_a_scalar_output_are_fixed(tmp_path: Path) -> None:
    step = Shapes(fixed=fixed("right", 2, 5), static=True)
    made = run_step(step, wrap(two_input_model(), tmp_path), tmp_path).model
    assert [s.shape for s in (*made.inputs, *made.outputs)] == [(2, 5), (2, 5), (2, 5), ()]


def test_a_model_that_needs_nothing_is_left_as_it_is(tmp_path: Path) -> None:
    start = wrap(conv_model(batch=1), tmp_path)
    result = run_step(Shapes(static=True), start, tmp_path)
    assert result.model is start
    assert not result.changed
