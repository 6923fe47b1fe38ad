"""Profile files: the shipped ones, and what is wrong with a user's own."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from edgepack.cli.targets import show
from edgepack.errors import TargetError
from edgepack.resources import TARGETS
from edgepack.targets import Precision, list_targets, load_file, load_target
from tests.targets.conftest import Profile

#: Abstract profiles begin with an underscore; `test_abstract_profiles_begin_with_an_underscore` holds them to it.
NAMES = sorted(p.stem for p in TARGETS.glob("*.yaml") if not p.name.startswith("_"))


def refusal(path: Path) -> TargetError:
    with pytest.raises(TargetError) as caught:
        load_file(path)
    return caught.value


def standalone(profile: Profile, change: Callable[[dict[str, Any]], None], of: str) -> Path:
    """A shipped profile with nothing left to inherit, changed."""
    data = load_target(of).as_yaml_data()
    change(data)
    return profile(yaml.safe_dump(data))


# The shipped ones


@pytest.mark.parametrize("name", NAMES)
def test_an_int8_graph_that_a_device_optimizes_keeps_in_float_what_was_left_in_float(
    name: str,
) -> None:
    """An .ort file was optimized on the build machine, before it was measured."""
    profile = load_target(name)
    spec = profile.precisions.get("int8")
    if spec is None or any(step.name == "ort_format" for step in spec.steps):
        return
    config = profile.runtime.session.config
    disabled = config["optimization.disable_specified_optimizers"].split(";")
    assert set(disabled) == {"WeightBiasQuantization", "BiasQuantization"}


def test_abstract_profiles_begin_with_an_underscore() -> None:
    assert [p.name for p in list_targets()] == NAMES
    with pytest.raises(TargetError):
        load_target("_base")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_is_what_targets_show_prints(
    name: str, profile: Profile, capsys: pytest.CaptureFixture[str]
) -> None:
    show(name)
    again = load_file(profile(capsys.readouterr().out, name="again"))
    assert again == load_target(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_ends_with_a_provider_that_is_always_there(name: str) -> None:
    providers = [p.name for p in load_target(name).runtime.providers]
    assert providers[-1] == "CPUExecutionProvider"
    assert len(set(providers)) == len(providers)


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_profile_allows_no_less_on_the_device_than_it_promises(name: str) -> None:
    shipped = load_target(name)
    assert set(shipped.precisions) >= {"fp32", "fp16", "int8"}
    for spec in shipped.precisions.values():
        assert spec.parity.atol + spec.parity.range < 1.0
        assert spec.device.atol + spec.device.range < 1.0


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_coreml_may_compile_and_keep_carries_its_own_key(name: str) -> None:
    shipped = load_target(name)
    keeps = any("ModelCacheDirectory" in p.options for p in shipped.runtime.providers)
    for precision, spec in shipped.precisions.items():
        names = [s.name for s in spec.steps]
        keys = [s.options["metadata"] for s in spec.steps if s.name == "cache_key"]
        assert keys == ["COREML_CACHE_KEY"] * keeps, precision
        after = names[names.index("cache_key") + 1 :] if keeps else []
        assert after in ([], ["ort_format"]), "ORT format alone may come behind it"


# Unknown names


def test_an_unknown_target_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(TargetError) as caught:
        load_target("androit")
    assert "'androit'" in caught.value.cause
    assert "did you mean 'android'?" in caught.value.fix
    assert all(name in caught.value.fix for name in NAMES)


@pytest.mark.parametrize("name", ["", "../targets/android", "_base", "android/../ios", "Android"])
def test_a_name_is_no_path(name: str) -> None:
    with pytest.raises(TargetError, match="there is no target"):
        load_target(name)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    error = refusal(tmp_path / "none.yaml")
    assert "none.yaml: No such file" in error.cause
    assert "check the path" in error.fix


@pytest.mark.parametrize(
    ("lines", "line", "key", "nearest"),
    [
        (["titel: x"], 3, "titel", "title"),
        (["runtime:", "  sesion: {}"], 4, "runtime.sesion", "session"),
        (["runtime:", "  session:", "    confg: {}"], 5, "runtime.session.confg", "config"),
        (
            ["runtime:", "  providers:", "    - name: CPUExecutionProvider", "      optoins: {}"],
            6,
            "runtime.providers.0.optoins",
            "options",
        ),
        (["precisions:", "  fp32:", "    stepz: []"], 5, "precisions.fp32.stepz", "steps"),
        (
            ["precisions:", "  fp16:", "    parity: {atoll: 1.0}"],
            5,
            "precisions.fp16.parity.atoll",
            "atol",
        ),
        (
            ["auto:", "  candidates:", "    - precision: fp32", "      becuase: x"],
            6,
            "auto.candidates.0.becuase",
            "because",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_its_line_and_the_nearest(
    profile: Profile, lines: list[str], line: int, key: str, nearest: str
) -> None:
    path = profile("extends: android", "title: My phone", *lines)
    error = refusal(path)
    assert error.cause == f"{path}:{line}: unknown key {key}"
    assert f"did you mean {nearest!r}?" in error.fix


def test_a_misspelt_key_is_named_though_the_right_one_is_missing(profile: Profile) -> None:
    path = profile("extends: android", "titel: My phone")
    error = refusal(path)
    assert error.cause == f"{path}:2: unknown key titel"
    assert "did you mean 'title'?" in error.fix


def test_an_unknown_key_in_a_parent_names_the_parents_file_and_line(profile: Profile) -> None:
    parent = profile("extends: android", "runtime:", "  packge: x", name="parent")
    child = profile("extends: parent", "title: Child", "runtime:", "  version: 1.2.3", name="child")
    assert refusal(child).cause == f"{parent}:3: unknown key runtime.packge"


def test_a_missing_key_names_the_users_file_not_the_one_it_extends(profile: Profile) -> None:
    path = profile("extends: android")
    error = refusal(path)
    assert error.cause == f"{path}: title is missing"
    assert error.fix == "add title"


def test_a_missing_key_in_a_list_longer_than_the_parents_is_refused(profile: Profile) -> None:
    path = profile(
        "extends: web",
        "title: x",
        "runtime:",
        "  providers:",
        "    - name: WebGpuExecutionProvider",
        "    - options: {}",
    )
    error = refusal(path)
    assert "runtime.providers.1.name is missing" in error.cause
    assert str(path) in error.cause


def test_a_precision_that_does_not_exist_is_refused(profile: Profile) -> None:
    path = profile("extends: android", "title: x", "precisions:", "  fp8: {steps: []}")
    error = refusal(path)
    assert f"{path}:4: precisions.fp8" in error.cause
    assert "'fp32'" in error.cause


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("runtime: {version: 1.29}", "runtime.version"),
        ("runtime: {min_version: new}", "runtime.min_version"),
        ("runtime: {language: cobol}", "runtime.language"),
        ("runtime: {providers: []}", "runtime.providers"),
        ("runtime: {providers: [{name: Cpu}]}", "runtime.providers.0.name"),
        ("runtime: {session: {intra_op_num_threads: -1}}", "runtime.session.intra_op_num_threads"),
        ("runtime: {session: {config: {a: true}}}", "runtime.session.config.a"),
        ("static_shapes: perhaps", "static_shapes"),
        ("steps: shapes", "steps"),
        ("steps: [[shapes]]", "steps"),
        ("precisions: {fp32: {parity: {atol: -1}}}", "precisions.fp32.parity.atol"),
        ("precisions: {fp32: {parity: {cosine: 2}}}", "precisions.fp32.parity.cosine"),
        (
            "auto: {candidates: [{precision: int9, because: x}]}",
            "auto.candidates.0.precision",
        ),
        ("auto: {candidates: []}", "auto.candidates"),
        ("auto: {timed_with: stopwatch}", "auto.timed_with"),
        (
            "precisions: {fp16: {provider_options: {CPUExecutionProvider: {a: 1}}}}",
            "precisions.fp16.provider_options.CPUExecutionProvider.a",
        ),
        ("requires: {l4t: '36'}", "requires"),
        ("requires: {l4t: '>=new'}", "requires"),
        ("requires: {memory: '>=4GB'}", "requires"),
        ("requires: {arch: '>=1'}", "requires"),
        ("name: ../elsewhere", "name"),
        ("name: a/b", "name"),
    ],
)
def test_a_value_that_is_not_legal_is_refused_with_its_line(
    profile: Profile, line: str, key: str
) -> None:
    path = profile("extends: android", "title: x", line)
    assert refusal(path).cause.startswith(f"{path}:3: {key} is ")


# YAML itself


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["title: a", "title: b"], ":2: title is there twice"),
        (["runtime:", "  version: 1.2.3", "  version: 1.2.4"], ":3: version is there twice"),
        (["title: &a x", "next: *a"], "aliases are not allowed"),
        (["- a", "- b"], "not a mapping"),
        (["just text"], "not a mapping"),
        ([""], "not a mapping"),
        (["title: [a"], "not YAML"),
        (["title: !!python/object:os.system x"], ":1: "),
        (["title: {a: b: c}"], "not YAML"),
    ],
)
def test_a_file_that_is_no_plain_yaml_mapping_is_refused(
    profile: Profile, lines: list[str], said: str
) -> None:
    path = profile(*lines)
    error = refusal(path)
    assert str(path) in error.cause
    assert said in error.cause


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"\xff\xfe\x00title")
    assert "not YAML" in refusal(tmp_path / "mine.yaml").cause


# extends


def test_an_unknown_parent_is_refused_with_its_line(profile: Profile) -> None:
    path = profile("title: x", "extends: androit")
    assert refusal(path).cause == f"{path}:2: extends 'androit', which is no profile"


@pytest.mark.parametrize("circle", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_circle_is_refused(profile: Profile, circle: list[str]) -> None:
    parents = [*circle[1:], circle[0]]
    paths = [
        profile(f"extends: {parent}", f"title: {name}", name=name)
        for name, parent in zip(circle, parents, strict=True)
    ]
    assert "extends itself" in refusal(paths[0]).cause


def test_a_users_profile_may_have_the_name_of_the_shipped_one_it_extends(profile: Profile) -> None:
    mine = load_file(profile("extends: android", "title: Mine", name="android"))
    assert mine.runtime == load_target("android").runtime


def test_mappings_are_merged_and_lists_replaced(profile: Profile) -> None:
    path = profile(
        "extends: ios",
        "title: Mine",
        "runtime:",
        "  providers: [{name: CPUExecutionProvider}]",
        "  session: {config: {mine: '1'}}",
        "requires: {ios: '>=17'}",
    )
    mine, theirs = load_file(path), load_target("ios")
    assert [p.name for p in mine.runtime.providers] == ["CPUExecutionProvider"]
    assert mine.runtime.session.config == {**theirs.runtime.session.config, "mine": "1"}
    assert mine.requires == {"arch": "arm64", "ios": ">=17"}
    assert mine.precisions == theirs.precisions


def test_a_set_of_steps_stands_for_its_steps(profile: Profile) -> None:
    lines = ("step_sets: {two: [simplify, float16]}", "precisions:", "  fp16: {steps: [set: two]}")
    steps = (
        load_file(profile("extends: jetson-orin", "title: Mine", *lines)).precisions["fp16"].steps
    )
    assert [s.name for s in steps] == ["simplify", "float16"]


def test_a_profile_may_change_a_set_of_steps_that_it_inherits(profile: Profile) -> None:
    lines = ("step_sets:", "  cpu_rewrites: [{tune: {rewrites: [pads]}}]")
    mine, theirs = load_file(profile("extends: web", "title: Mine", *lines)), load_target("web")
    assert mine.precisions["int8"].steps[0].options["rewrites"] == ["pads"]
    assert len(theirs.precisions["int8"].steps[0].options["rewrites"]) == 10
    assert mine.precisions["fp32"] == theirs.precisions["fp32"]


def test_a_set_of_variants_stands_for_its_variants(profile: Profile) -> None:
    lines = ("variant_sets: {other_ranges: [{method: mse}, {method: entropy}]}",)
    mine = load_file(profile("extends: web", "title: Mine", *lines))
    variants = [v.root for v in mine.precisions["int8"].variants]
    assert variants == [{"method": "mse"}, {"method": "entropy"}, {"per_channel": False}]


def test_every_search_for_int8_also_tries_biases_as_they_were() -> None:
    for target in list_targets():
        spec = target.precisions.get("int8")
        assert spec is None or {"bias_correction": False} in [v.root for v in spec.variants]


def test_no_list_of_rewrites_stands_in_two_places() -> None:
    texts = [p.read_text() for p in TARGETS.glob("*.yaml")]
    lists = [
        " ".join(found.split()) for t in texts for found in re.findall(r"rewrites: \[(.*?)\]", t)
    ]
    assert len(lists) == len(set(lists)) >= 1


@pytest.mark.parametrize(
    ("lines", "cause", "fix"),
    [
        (["steps: [shapes, set: cpu_rewrite]"], "step_sets has no 'cpu_rewrite'", "'cpu_rewrites'"),
        (["step_sets: {mine: shapes}"], "step_sets must be lists of steps", "step_sets:"),
        (["variant_sets: {mine: 1}"], "variant_sets must be lists of variants", "variant_sets:"),
    ],
)
def test_a_wrong_set_of_steps_is_refused_with_its_line(
    profile: Profile, lines: list[str], cause: str, fix: str
) -> None:
    path = profile("extends: android", "title: Mine", *lines)
    error = refusal(path)
    assert error.cause.startswith(f"{path}:3: ")
    assert cause in error.cause
    assert fix in error.fix


def test_name_and_title_are_a_files_own(profile: Profile) -> None:
    profile("extends: android", "title: Parent", "name: parent-name", name="parent")
    child = load_file(profile("extends: parent", "title: Child", name="child"))
    assert (child.name, child.title) == ("child", "Child")


# steps


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("[shapes, simplfy]", "no step 'simplfy'; did you mean 'simplify'?"),
        ("[shapes: {bach: 1}]", "step shapes has no option 'bach'; did you mean 'batch'?"),
        ("[shapes: {batch: many}]", "step shapes: batch is 'many'"),
        ("[{ort_format: {style: fixed}}, simplify]", "simplify takes onnx, but gets ort"),
        ("[float16]", "the steps end in fp16"),
    ],
)
def test_wrong_steps_are_refused(profile: Profile, steps: str, said: str) -> None:
    path = profile("extends: web-webgpu", "title: x", f"steps: {steps}")
    error = refusal(path)
    assert str(path) in error.cause
    assert said in error.cause


@pytest.mark.parametrize(
    ("precision", "steps", "said"),
    [
        ("int8", "[int8: {activations: int9}]", "step int8: activations is 'int9'"),
        ("int8", "[int8: {per_chanel: true}]", "did you mean 'per_channel'?"),
        ("int8", "[]", "the steps end in fp32"),
        ("fp16", "[int8]", "the steps end in int8"),
        ("fp32", "[ort_format, float16]", "float16 takes onnx, but gets ort"),
        ("int8-weights", "[int8_weights, ort_format]", "ort_format would write the weights"),
    ],
)
def test_wrong_steps_of_a_precision_are_refused_under_its_name(
    profile: Profile, precision: str, steps: str, said: str
) -> None:
    path = profile("extends: web", "title: x", "precisions:", f"  {precision}: {{steps: {steps}}}")
    error = refusal(path)
    assert f"steps of {precision}" in error.cause
    assert said in error.cause


def test_a_precision_may_have_options_of_the_profiles_own_providers_only(profile: Profile) -> None:
    lines = ("precisions:", "  fp32:", "    provider_options: {CUDAExecutionProvider: {a: b}}")
    assert (
        "fp32 has provider_options for CUDAExecutionProvider"
        in refusal(profile("extends: android", "title: x", *lines)).cause
    )


@pytest.mark.parametrize(
    ("precision", "allowed"),
    [("fp32", {}), ("fp16", {"trt_fp16_enable": "1"}), ("int8", {"trt_int8_enable": "1"})],
)
def test_tensorrt_is_allowed_the_precision_of_the_model_and_no_other(
    precision: Precision, allowed: dict[str, str]
) -> None:
    """Without it, an FP16 model runs in FP32 there, and one with Q/DQ does not build (onnxruntime#13381)."""
    for path in TARGETS.glob("jetson*.yaml"):
        profile = load_file(path)
        first, *others = profile.runtime_for(precision).providers
        assert {
            k: v for k, v in first.options.items() if k.startswith(("trt_fp16", "trt_int8"))
        } == allowed
        assert first.options.items() >= profile.runtime.providers[0].options.items()
        assert others == list(profile.runtime.providers[1:])


WAY = (
    "extends: linux-x64",
    "title: x",
    "precisions:",
    "  int8@mine: {providers: [CPUExecutionProvider]}",
)


def test_another_way_to_a_precision_is_as_the_precision_but_for_what_it_says(
    profile: Profile,
) -> None:
    loaded = load_file(profile(*WAY))
    assert loaded.precisions["int8@mine"] == loaded.precisions["int8"]
    assert [p.name for p in loaded.runtime_for("int8@mine").providers] == ["CPUExecutionProvider"]
    leads = loaded.precisions["int8@openvino"]
    assert leads.parity == loaded.precisions["int8"].parity
    assert leads.steps != loaded.precisions["int8"].steps


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  int8@: {}", "precisions.int8@"),
        ("  int9@mine: {}", "precisions.int9@mine"),
        ("  int8@mine: {providers: [NnapiExecutionProvider]}", "NnapiExecutionProvider"),
    ],
)
def test_a_way_that_leads_nowhere_is_refused(profile: Profile, line: str, said: str) -> None:
    assert said in refusal(profile(*WAY[:3], line)).cause


def test_a_providers_package_has_a_version(profile: Profile) -> None:
    lines = (
        "runtime:",
        "  providers:",
        "    - {name: OpenVINOExecutionProvider, package: openvino}",
    )
    cause = refusal(profile("extends: android", "title: x", *lines)).cause
    assert "package and version go together" in cause


def test_auto_may_not_choose_a_precision_that_is_not_listed(profile: Profile) -> None:
    path = standalone(profile, lambda data: data["precisions"].pop("int8"), of="android")
    assert "auto names int8, which precisions does not list" in refusal(path).cause


def test_a_precision_may_be_left_out_where_auto_does_not_choose_it(profile: Profile) -> None:
    path = standalone(profile, lambda data: data["precisions"].pop("fp16"), of="web")
    assert "fp16" not in load_file(path).precisions
