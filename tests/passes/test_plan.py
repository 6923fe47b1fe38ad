"""Which precision, which steps, which bounds."""

from __future__ import annotations

import pytest

from edgepack.artifact import Format
from edgepack.errors import UsageError
from edgepack.passes.plan import Plan, ShapeRequest, check_chain, left_for_want_of_data, make_plans
from edgepack.passes.registry import STEPS, make_step
from edgepack.passes.step import options_of
from edgepack.targets import list_targets, load_target

#: What auto chooses from, in order; those of DATA only where there are some.
DATA = ("int8", "int8@openvino", "bf16", "int8-weights", "int4-weights")
AUTO = {
    "android": ("int8", "fp32"),
    "android-nnapi": ("int8", "fp32"),
    "ios": ("fp16", "fp32"),
    "ios-cpu": ("int8", "fp32"),
    "jetson-orin": ("int8", "fp16", "fp32"),
    "jetson-orin-jp7": ("int8", "fp16", "fp32"),
    "jetson-thor": ("int8", "fp16", "fp32"),
    "jetson-xavier": ("int8", "fp16", "fp32"),
    "linux-x64": ("int8", "int8@openvino", "fp32", "fp32@openvino", "bf16"),
    "web": ("int8-weights", "fp16-weights", "fp32", "int8"),
    "web-webgpu": ("int8-weights", "fp16-weights", "fp32", "int4-weights"),
}


def plan_for(
    target: str,
    requested: str = "auto",
    *,
    calibrated: bool = False,
    shapes: ShapeRequest | None = None,
    atol: float | None = None,
    rtol: float | None = None,
) -> Plan:
    """The profile's favourite."""
    return make_plans(
        load_target(target),
        requested=requested,
        calibrated=calibrated,
        shapes=shapes or ShapeRequest(),
        atol=atol,
        rtol=rtol,
    )[0]


def test_every_target_has_an_expected_choice() -> None:
    assert set(AUTO) == {p.name for p in list_targets()}


@pytest.mark.parametrize("target", AUTO)
@pytest.mark.parametrize("calibrated", [True, False])
def test_auto_offers_what_the_profile_prefers_and_says_why(target: str, calibrated: bool) -> None:
    plans = make_plans(
        load_target(target),
        requested="auto",
        calibrated=calibrated,
        shapes=ShapeRequest(),
        atol=None,
        rtol=None,
    )
    expected = [p for p in AUTO[target] if calibrated or p not in DATA]
    assert [p.way for p in plans] == expected
    because = {c.precision: c.because for c in plans[0].profile.auto.candidates}
    assert [p.reason for p in plans] == [because[p] for p in expected]
    assert {p.requested for p in plans} == {"auto"}
    left = [p for p in AUTO[target] if p not in expected]
    said = left_for_want_of_data(plans)
    assert said.partition(" w")[0] == ", ".join(left)
    assert ("--calibration" in said) is bool(left)


def test_of_a_precision_that_was_asked_for_nothing_is_left() -> None:
    assert left_for_want_of_data([plan_for("android", "fp32")]) == ""


@pytest.mark.parametrize("target", AUTO)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_of_every_target_is_a_chain_that_reaches_it(
    target: str, precision: str
) -> None:
    plan = plan_for(target, precision, calibrated=True)
    check_chain(plan.steps, precision)
    assert plan.precision == precision
    assert "--precision" in plan.reason


@pytest.mark.parametrize("target", ["android", "android-nnapi", "ios", "ios-cpu", "web"])
def test_phones_and_wasm_get_ort_format(target: str) -> None:
    for precision in ("fp32", "fp16", "int8"):
        plan = plan_for(target, precision, calibrated=True)
        # NNAPI looks for Q/DQ pairs, which only the plain graph keeps for every runtime version.
        plain = (target, precision) == ("android-nnapi", "int8")
        assert plan.steps[-1].produces == (Format.ONNX if plain else Format.ORT)


@pytest.mark.parametrize("target", [t for t in AUTO if t.startswith("jetson")] + ["web-webgpu"])
def test_boards_and_webgpu_get_onnx(target: str) -> None:
    for precision in ("fp32", "fp16", "int8"):
        plan = plan_for(target, precision, calibrated=True)
        assert plan.steps[-1].produces == Format.ONNX


@pytest.mark.parametrize("precision", ["fp64", "INT8", "", "int4"])
def test_a_precision_the_target_does_not_have_is_refused_and_the_legal_listed(
    precision: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        plan_for("android", precision)
    assert f"android: precision {precision!r} is not legal there" in caught.value.cause
    assert caught.value.fix == "use one of: auto, fp32, fp16, int8, fp16-weights, int8-weights"


def test_int8_without_calibration_is_refused_before_any_work() -> None:
    with pytest.raises(UsageError) as caught:
        plan_for("jetson-orin", "int8")
    assert caught.value.cause == "jetson-orin: int8 needs calibration data, and none were given"
    assert "--calibration" in caught.value.fix


@pytest.mark.parametrize("precision", ["int8-weights", "int4-weights"])
def test_quantized_weights_without_data_to_measure_them_on_are_refused_before_any_work(
    precision: str,
) -> None:
    with pytest.raises(UsageError) as caught:
        plan_for("web-webgpu", precision)
    assert caught.value.cause == (
        f"web-webgpu: {precision} loses accuracy, and there are no data to measure how much"
    )
    assert "--eval" in caught.value.fix
    assert "--calibration" in caught.value.fix


def test_quantized_weights_need_labels_or_calibration_data_but_not_both() -> None:
    for data in ({"calibrated": True}, {"calibrated": False, "measurable": True}):
        (plan,) = make_plans(
            load_target("web"),
            requested="int8-weights",
            **data,
            shapes=ShapeRequest(),
            atol=None,
            rtol=None,
        )
        assert (plan.needs_calibration, plan.needs_measuring, plan.loses) == (False, True, True)


def test_weights_as_float16_need_no_data() -> None:
    assert not plan_for("web", "fp16-weights").needs_measuring


def test_atol_and_rtol_replace_the_profiles_bounds_range_and_cosine() -> None:
    plan = plan_for("android", "int8", calibrated=True, atol=0.25)
    assert plan.spec.parity.model_dump() == {
        "atol": 0.25,
        "rtol": 0.0,
        "range": 0.0,
        "cosine": -1.0,
    }
    assert plan.base.atol == 0.25
    plan = plan_for("android", "fp16", rtol=0.5)
    assert (plan.spec.parity.atol, plan.spec.parity.rtol, plan.spec.parity.range) == (
        1e-3,
        0.5,
        0.0,
    )


def test_without_atol_the_profiles_bounds_hold() -> None:
    plan = plan_for("android", "int8", calibrated=True)
    profile = load_target("android")
    assert plan.spec.parity == profile.precisions["int8"].parity
    assert plan.base == profile.precisions["fp32"].parity


def test_atol_leaves_what_the_device_may_be_off() -> None:
    assert plan_for("web", atol=9.0).spec.device == load_target("web").precisions["fp32"].device


@pytest.mark.parametrize(("batch", "becomes"), [(None, 1), (4, 4), ("free", None)])
def test_the_requested_batch_goes_into_the_shapes_step(
    batch: int | str | None, becomes: int | None
) -> None:
    plan = plan_for("web", shapes=ShapeRequest(batch=batch, shapes=(("x", (1, 2)),)))
    assert (plan.shapes.batch, plan.shapes.fixed, plan.shapes.static) == (
        becomes,
        (("x", (1, 2)),),
        False,
    )
    assert plan_for("android").shapes.static


#: Options without which a step says nothing.
REQUIRED: dict[str, dict[str, object]] = {"cache_key": {"metadata": "KEY"}}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_made_without_options_has_its_defaults(name: str) -> None:
    required = REQUIRED.get(name, {})
    step = make_step(name, required)
    assert step == STEPS[name](**required)
    assert hash(step) == hash(STEPS[name](**required))


def test_steps_take_lists_where_they_have_tuples_and_give_plain_options() -> None:
    step = make_step("int8", {"float_outputs": ["Conv"], "symmetric": True})
    options = options_of(step)
    assert (options["float_outputs"], options["symmetric"]) == (["Conv"], True)
    assert make_step("int8", options) == step


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("int9", {}, "no step 'int9'; did you mean 'int8'?"),
        ("int8", {"symetric": True}, "did you mean 'symmetric'?"),
        ("int8", {"symmetric": "perhaps"}, "symmetric is 'perhaps'"),
        ("ort_format", {"style": "loose"}, "style is 'loose'"),
        ("simplify", {"level": 2}, "no option 'level'"),
    ],
)
def test_a_wrong_step_or_option_is_refused_with_the_nearest(
    name: str, options: dict[str, object], said: str
) -> None:
    with pytest.raises(ValueError, match="step") as caught:
        make_step(name, options)
    assert said in str(caught.value)
