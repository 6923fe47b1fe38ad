"""The `legality:` section of a target profile."""

from __future__ import annotations

import pytest

from edgepack.errors import TargetError
from edgepack.legality.registry import RULES, make_rule, rules_for
from edgepack.legality.rules.files import OpsetRange
from edgepack.legality.rules.quantization import ZeroPoints
from edgepack.targets import list_targets, load_file, load_target
from tests.targets.conftest import Profile, profile  # noqa: F401  (a fixture)

HEAD = ("extends: jetson-orin", "title: My board")


@pytest.mark.parametrize("target", [p.name for p in list_targets()])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_rule_of_a_shipped_target_names_its_source_or_a_table_that_does(
    target: str, precision: str
) -> None:
    rules = rules_for(load_target(target), precision)
    assert len(rules) >= 3
    assert [r.name for r in rules if not r.source and not getattr(r, "tables", ())] == []


def test_every_rule_is_used_by_some_target() -> None:
    used = {r.name for p in list_targets() for r in rules_for(p, "int8")}
    used |= {r.name for p in list_targets() for r in rules_for(p, "fp16")}
    assert used == set(RULES)


def test_options_are_merged_key_by_key(profile: Profile) -> None:  # noqa: F811
    path = profile(*HEAD, "legality: {opset: {maximum: 15}}")
    rule = next(r for r in rules_for(load_file(path), "fp32") if isinstance(r, OpsetRange))
    assert (rule.minimum, rule.maximum) == (9, 15)
    assert "onnx-tensorrt" in rule.source


def test_false_drops_an_inherited_rule(profile: Profile) -> None:  # noqa: F811
    path = profile(*HEAD, "legality: {zero_points: false}")
    names = {r.name for r in rules_for(load_file(path), "int8")}
    assert "zero_points" not in names
    assert "float_bias" in names


def test_a_rule_may_hold_for_some_precisions_alone(profile: Profile) -> None:  # noqa: F811
    path = profile(*HEAD, "legality: {zero_points: {precisions: [int8]}}")
    loaded = load_file(path)
    assert any(isinstance(r, ZeroPoints) for r in rules_for(loaded, "int8"))
    assert not any(isinstance(r, ZeroPoints) for r in rules_for(loaded, "fp32"))


def test_the_profiles_own_key_switches_the_rule_of_static_shapes(profile: Profile) -> None:  # noqa: F811
    free = load_file(profile(*HEAD, "static_shapes: false"))
    assert "static_shapes" not in {r.name for r in rules_for(free, "fp32")}
    fixed = load_file(profile("extends: web", "title: x", "static_shapes: true", name="other"))
    assert "static_shapes" in {r.name for r in rules_for(fixed, "fp32")}


@pytest.mark.parametrize(
    ("line", "said", "nearest"),
    [
        ("  zero_point: {}", "no rule 'zero_point'", "'zero_points'"),
        ("  opset: {maximun: 3}", "rule opset has no option 'maximun'", "'maximum'"),
        ("  opset: {maximum: new}", "rule opset: maximum is 'new'", ""),
        ("  zero_points: {severity: fatal}", "rule zero_points: severity is 'fatal'", ""),
    ],
)
def test_an_unknown_rule_or_option_is_refused_with_its_line_and_the_nearest(
    profile: Profile,  # noqa: F811
    line: str,
    said: str,
    nearest: str,
) -> None:
    path = profile(*HEAD, "legality:", line)
    with pytest.raises(TargetError) as caught:
        load_file(path)
    assert caught.value.cause.startswith(f"{path}:4: legality: {said}")
    assert nearest in caught.value.cause


def test_a_faulty_rule_of_a_parent_is_found_in_the_parents_file(profile: Profile) -> None:  # noqa: F811
    parent = profile(*HEAD, "legality:", "  zero_point: {}", name="parent")
    child = profile("extends: parent", "title: Child", name="child")
    with pytest.raises(TargetError) as caught:
        load_file(child)
    assert caught.value.cause.startswith(f"{parent}:4: ")


def test_a_section_that_is_no_mapping_is_refused(profile: Profile) -> None:  # noqa: F811
    for line in ("legality: all", "legality: {opset: 17}", "legality: {opset: true}"):
        with pytest.raises(TargetError, match=r"mine\.yaml:3: legality"):
            load_file(profile(*HEAD, line))


def test_a_rule_is_made_with_its_defaults() -> None:
    assert make_rule("zero_points", {}) == ZeroPoints()
