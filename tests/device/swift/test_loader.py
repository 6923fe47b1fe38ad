"""The Swift loader keeps the contract of runtime/README.md, as far as Linux can tell: see linux.py."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from tests.bundle_samples import seal
from tests.device.swift import linux
from tests.device.swift.linux import (
    SWIFT,
    add_loader,
    build,
    chroot,
    inside,
    swift_calls,
    swift_run,
    swift_self_test,
)

COREML, CPU = "CoreMLExecutionProvider", "CPUExecutionProvider"
IMAGE = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8, 1)


@pytest.fixture(scope="module")
def shipped(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample conv-onnx with the loader in it: a bundle as it is shipped."""
    bundle = tmp_path_factory.mktemp("shipped") / "conv-onnx"
    shutil.copytree(samples / "conv-onnx", bundle)
    add_loader(bundle)
    return bundle


@pytest.fixture(scope="module")
def programs(shipped: Path) -> Path:
    return build(shipped)


@pytest.fixture
def conv(samples: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(samples / "conv-onnx", tmp_path / "conv"))


@pytest.fixture
def multi(samples: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(samples / "multi-onnx", tmp_path / "multi"))


def edit(bundle: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    change(manifest)
    seal(bundle, manifest)
    return bundle


def rewrite(bundle: Path, path: str, data: bytes) -> None:
    """Change a file and give it its right size and SHA-256 in the manifest."""
    (bundle / path).write_bytes(data)

    def update(manifest: dict[str, Any]) -> None:
        (file,) = (f for f in manifest["files"] if f["path"] == path)
        file |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

    edit(bundle, update)


def providers(*names: str, **options: str) -> Callable[[dict[str, Any]], object]:
    listed = [{"name": name, "options": {} if name == CPU else options} for name in names]
    return lambda manifest: manifest["runtime"].update(providers=listed)


def recorded(manifest: dict[str, Any]) -> None:
    """As the profiles of iOS have it: ONNX Runtime notes which provider takes which node."""
    manifest["runtime"]["session"]["config"] = {"session.record_ep_graph_assignment_info": "1"}


def python_run(bundle: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    path = json.loads((bundle / "manifest.json").read_bytes())["model"]["path"]
    session = onnxruntime.InferenceSession(bundle / path, providers=[CPU])
    names = [y.name for y in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


# Answers


@pytest.mark.parametrize("name", ["conv-onnx", "conv-ort", "multi-onnx", "multi-ort"])
def test_self_test_passes_on_every_sample(name: str, samples: Path, programs: Path) -> None:
    manifest = json.loads((samples / name / "manifest.json").read_bytes())
    answer = swift_self_test(samples / name, programs)
    expected = [(g["name"], e["name"], e["from"]) for g in manifest["golden"] for e in g["expect"]]
    assert [(c["case"], c["output"], c["from"]) for c in answer["cases"]] == expected
    assert answer["passed"]
    assert all(c["passed"] and c["max_abs"] < 1e-5 for c in answer["cases"])


def test_report_says_what_opened(samples: Path, tmp_path: Path, programs: Path) -> None:
    onnx_model, ort_model = (
        swift_self_test(
            edit(Path(shutil.copytree(samples / name, tmp_path / name)), recorded), programs
        )["report"]
        for name in ("conv-onnx", "conv-ort")
    )
    model = (samples / "conv-onnx" / "model" / "conv-onnx.onnx").read_bytes()
    assert onnx_model == {
        "provider": CPU,
        "nodes": {CPU: 6},
        "passed_over": {},
        "runtime_version": linux.VERSION,
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "precision": "fp32",
    }
    assert ort_model["nodes"] == {}  # ONNX Runtime does not tell


def test_answers_are_those_of_python(shipped: Path, programs: Path) -> None:
    assert programs.exists()
    rng = np.random.default_rng(7)
    image = rng.normal(size=(1, 8, 8, 1)).astype(np.float32)
    answer = swift_run(shipped, {"image": image})
    expected = python_run(shipped, {"image": image})
    np.testing.assert_allclose(
        answer["probabilities"], expected["probabilities"], atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("batch", [1, 5, 0])
def test_a_free_batch_may_be_any_size(batch: int, samples: Path, programs: Path) -> None:
    inputs = multi_inputs(batch)
    (answer,) = swift_calls(samples / "multi-ort", [inputs], programs=programs)["answers"]
    for name, x in inputs.items():
        if x.ndim:
            assert answer[f"out_{name}"].dtype == x.dtype
            np.testing.assert_array_equal(answer[f"out_{name}"], x)
    np.testing.assert_array_equal(answer["sum"], inputs["f32"] + inputs["scalar/odd name:0"])


def multi_inputs(batch: int) -> dict[str, np.ndarray]:
    values = np.arange(batch * 3).reshape(batch, 3)
    dtypes = {
        "f16": "float16",
        "f32": "float32",
        "i8": "int8",
        "u8": "uint8",
        "i32": "int32",
        "i64": "int64",
    }
    inputs = {
        name: (values - (7 if name != "u8" else 0)).astype(dtype) for name, dtype in dtypes.items()
    }
    return inputs | {"b": values % 2 == 0, "scalar/odd name:0": np.array(0.5, np.float32)}


@pytest.mark.parametrize("dtype", ["float64", "int16", "uint16", "uint32", "uint64"])
def test_the_dtypes_the_samples_lack_pass_through(dtype: str, conv: Path, programs: Path) -> None:
    limits = np.finfo(dtype) if dtype == "float64" else np.iinfo(dtype)
    x = np.array([limits.min, 0, 1, limits.max], dtype=dtype)
    identity(conv, dtype)
    done = swift_calls(conv, [{"x": x}], programs=programs)
    np.testing.assert_array_equal(done["answers"][0]["y"], x)


def identity(bundle: Path, dtype: str) -> None:
    """Make a sample's model the identity over a vector of `dtype`, without golden cases."""
    code = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, code, ["n"]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "identity", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    rewrite(bundle, "model/conv-onnx.onnx", model.SerializeToString())
    spec = {"dtype": dtype, "shape": ["n"]}
    changes = {"inputs": [spec | {"name": "x"}], "outputs": [spec | {"name": "y"}], "golden": []}
    edit(bundle, lambda m: m.update(changes))


def test_every_float16_reads_as_its_float(multi: Path, programs: Path) -> None:
    halves = (
        np.concatenate([np.arange(65536), [0, 0]]).astype(np.uint16).view(np.float16).reshape(-1, 3)
    )
    inputs = {
        name: np.resize(x, halves.shape) if x.ndim else x for name, x in multi_inputs(1).items()
    }
    (answer,) = swift_calls(multi, [inputs | {"f16": halves}], programs=programs)["answers"]
    np.testing.assert_array_equal(answer["out_f16"].view(np.uint16), halves.view(np.uint16))


def test_threads_and_tasks_may_run_one_session_at_once(samples: Path, programs: Path) -> None:
    done = swift_calls(
        samples / "conv-ort", [{"image": IMAGE}], threads=2, at_once=64, programs=programs
    )
    expected = python_run(samples / "conv-onnx", {"image": IMAGE})["probabilities"]
    np.testing.assert_allclose(done["answers"][0]["probabilities"], expected, atol=1e-5, rtol=0)


def test_sessions_that_were_closed_leave_no_memory_behind(samples: Path, programs: Path) -> None:
    call = {"image": IMAGE}
    resident = swift_calls(
        samples / "conv-ort", [call], sessions=200, threads=1, programs=programs
    )["resident"]
    # A session of this model takes some 250 KiB; 150 of them would be 37 MiB.
    assert resident[-1] - resident[49] < 2048, resident[49::25]


# Golden cases


def test_self_test_fails_on_a_wrong_expectation(conv: Path, programs: Path) -> None:
    expected = np.fromfile(conv / "golden" / "1" / "source-0.bin", np.float32)
    expected[3] += 0.25
    rewrite(conv, "golden/1/source-0.bin", expected.tobytes())
    answer = swift_self_test(conv, programs)
    (miss,) = (c for c in answer["cases"] if not c["passed"])
    assert not answer["passed"]
    assert (miss["case"], miss["from"]) == ("1", "source")
    assert miss["max_abs"] == pytest.approx(0.25, abs=1e-5)


def golden_of_identity(bundle: Path, x: np.ndarray, y: np.ndarray, **tolerance: float) -> None:
    """One golden case of the identity, which gets `x` and expects `y`."""
    identity(bundle, x.dtype.name)
    rewrite(bundle, "golden/0/input-0.bin", x.tobytes())
    rewrite(bundle, "golden/0/source-0.bin", y.tobytes())
    one = {"name": "x", "dtype": x.dtype.name, "shape": [x.size], "path": "golden/0/input-0.bin"}
    expect = {
        "name": "y",
        "dtype": y.dtype.name,
        "shape": [y.size],
        "path": "golden/0/source-0.bin",
    }
    expect |= {"from": "source", "atol": 0.0, "rtol": 0.0} | tolerance
    edit(bundle, lambda m: m.update(golden=[{"name": "0", "inputs": [one], "expect": [expect]}]))


@pytest.mark.parametrize(
    ("x", "y", "tolerance", "max_abs", "passed"),
    [
        ([np.nan, np.inf, -np.inf, 1], [np.nan, np.inf, -np.inf, 1], {}, 0, True),
        ([1, 2], [1, np.nan], {"rtol": 9.0}, None, False),
        ([1, np.nan], [1, 2], {"rtol": 9.0}, None, False),
        ([np.nan, 1], [1, 2], {"rtol": 9.0}, None, False),
        ([1, 2], [1, np.inf], {"rtol": 9.0}, None, False),
        ([np.inf], [-np.inf], {"rtol": 9.0}, None, False),
        ([2.0, -4.0], [2.5, -4.0], {"rtol": 0.2}, 0.5, True),
        ([2.5, -4.0], [2.0, -4.0], {"rtol": 0.2}, 0.5, False),
        ([2.5, -4.0], [2.0, -4.0], {"atol": 0.1, "rtol": 0.2}, 0.5, True),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_comparison_is_the_contracts(
    dtype: str,
    x: Any,
    y: Any,
    tolerance: Any,
    max_abs: Any,
    passed: bool,
    conv: Path,
    programs: Path,
) -> None:
    golden_of_identity(conv, np.array(x, dtype), np.array(y, dtype), **tolerance)
    (case,) = swift_self_test(conv, programs)["cases"]
    assert (case["max_abs"], case["passed"]) == (max_abs, passed)


@pytest.mark.parametrize(
    ("x", "y", "atol", "max_abs", "passed"),
    [
        (2**53 + 1, 2**53, 0.0, 1, False),  # one Double
        (2**53 + 1, 2**53 + 2, 1.0, 1, True),  # two Doubles, two apart
        (-(2**63), 2**63 - 1, 0.0, 2.0**64, False),
        (2**63 - 1, 2**63 - 1, 0.0, 0, True),
    ],
)
def test_integers_are_compared_where_double_has_not_all_of_them(
    x: int, y: int, atol: float, max_abs: float, passed: bool, conv: Path, programs: Path
) -> None:
    golden_of_identity(conv, np.array([x], np.int64), np.array([y], np.int64), atol=atol)
    (case,) = swift_self_test(conv, programs)["cases"]
    assert (case["max_abs"], case["passed"]) == (max_abs, passed)


def test_unsigned_integers_are_compared_exactly_too(conv: Path, programs: Path) -> None:
    x, y = np.array([2**64 - 1, 0], np.uint64), np.array([2**64 - 2, 0], np.uint64)
    golden_of_identity(conv, x, y)
    (case,) = swift_self_test(conv, programs)["cases"]
    assert (case["max_abs"], case["passed"]) == (1, False)
    golden_of_identity(conv, x, y, atol=1.0)
    assert swift_self_test(conv, programs)["passed"]


def test_an_empty_tensor_is_an_empty_file(conv: Path, programs: Path) -> None:
    golden_of_identity(conv, np.zeros(0, np.float32), np.zeros(0, np.float32))
    assert swift_self_test(conv, programs)["passed"]


def test_integers_are_compared_by_tolerance_too(conv: Path, programs: Path) -> None:
    golden_of_identity(conv, np.array([3, -5], np.int8), np.array([4, -5], np.int8), atol=1.0)
    assert swift_self_test(conv, programs)["passed"]
    golden_of_identity(conv, np.array([3, -5], np.int8), np.array([5, -5], np.int8), atol=1.0)
    assert not swift_self_test(conv, programs)["passed"]


@pytest.mark.parametrize(
    "change",
    [{"shape": [10]}, {"dtype": "int32"}, {"name": "logits"}],
    ids=["shape", "dtype", "name"],
)
def test_an_expectation_of_another_shape_dtype_or_name_is_a_miss(
    change: dict[str, Any], conv: Path, programs: Path
) -> None:
    edit(conv, lambda m: m["golden"][0]["expect"][0].update(change))
    answer = swift_self_test(conv, programs)
    assert (answer["cases"][0]["max_abs"], answer["cases"][0]["passed"]) == (None, False)
    assert answer["cases"][1]["passed"]
    assert not answer["passed"]


def test_a_bundle_without_golden_cases_does_not_pass(conv: Path, programs: Path) -> None:
    edit(conv, lambda m: m.update(golden=[]))
    answer = swift_self_test(conv, programs)
    assert (answer["cases"], answer["passed"]) == ([], False)


# Errors


def flip(bundle: Path, path: str) -> None:
    data = bytearray((bundle / path).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle / path).write_bytes(data)


def truncate(bundle: Path, path: str) -> None:
    (bundle / path).write_bytes((bundle / path).read_bytes()[:-1])


def pop(*place: str | int) -> Callable[[Path], object]:
    def change(manifest: Any) -> None:
        for key in place[:-1]:
            manifest = manifest[key]
        del manifest[place[-1]]

    return lambda bundle: edit(bundle, change)


def put(*place: str | int, to: Any) -> Callable[[Path], object]:
    def change(manifest: Any) -> None:
        for key in place[:-1]:
            manifest = manifest[key]
        manifest[place[-1]] = to

    return lambda bundle: edit(bundle, change)


def moved(path: str) -> Callable[[Path], object]:
    """A golden input under another name, which `files` lists."""

    def change(manifest: dict[str, Any]) -> None:
        for one in (manifest["files"][0], manifest["golden"][0]["inputs"][0]):
            one["path"] = path

    return lambda bundle: edit(bundle, change)


MODEL, INPUT = "model/conv-onnx.onnx", "golden/0/input-0.bin"


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (lambda b: (b / "manifest.json").unlink(), "bundle-not-found", "manifest.json"),
        (lambda b: (b / "manifest.json").write_text("{"), "manifest-invalid", "JSON"),
        (lambda b: (b / "manifest.json").write_text("[" * 100_000), "manifest-invalid", "JSON"),
        (
            lambda b: (b / "manifest.json").write_bytes(b"\xff\xfe{"),
            "manifest-invalid",
            "manifest.json",
        ),
        (put("schema", to="1"), "manifest-invalid", "schema"),
        (put("schema", to=2), "schema-unsupported", "schema: 2"),
        (put("critical", to=["signature"]), "schema-unsupported", "signature"),
        (
            pop("runtime", "min_version"),
            "manifest-invalid",
            'keyNotFound(CodingKeys(stringValue: "min_version"',
        ),
        (put("runtime", "min_version", to="new"), "manifest-invalid", "'new'"),
        (put("runtime", "min_version", to="99.0.0"), "runtime-too-old", "99.0.0"),
        (
            put("runtime", "providers", 0, "options", to={"a": 1}),
            "manifest-invalid",
            '"options"',
        ),
        (
            put("runtime", "session", "graph_optimization_level", to="most"),
            "manifest-invalid",
            "most",
        ),
        (
            put("runtime", "session", "intra_op_num_threads", to=-1),
            "manifest-invalid",
            "manifest.json",  # Foundation for Linux does not say where
        ),
        (put("inputs", 0, "dtype", to="float8"), "manifest-invalid", "float8"),
        (
            put("inputs", 0, "shape", to=[1, -8, 8, 1]),
            "manifest-invalid",
            '"shape"',
        ),
        (
            put("inputs", 0, "shape", to=[1, 8.5, 8, 1]),
            "manifest-invalid",
            '"shape"',
        ),
        (put("files", 0, "size", to=-1), "manifest-invalid", "manifest.json"),
        *(
            (moved(path), "manifest-invalid", "'")
            for path in (
                "/etc/x",
                "golden/../../x",
                "golden\\x",
                "../\u0301x",
                "golden/\0",
                "",
                "ä",
            )
        ),
        (put("model", "path", to="../model"), "manifest-invalid", "'../model'"),
        (put("model", "path", to=INPUT), "manifest-invalid", INPUT),
        (put("golden", 0, "inputs", 0, "path", to="../x"), "manifest-invalid", "'../x'"),
        (lambda b: (b / MODEL).unlink(), "file-missing", MODEL),
        (lambda b: flip(b, MODEL), "file-corrupt", MODEL),
        (lambda b: truncate(b, MODEL), "file-corrupt", "21101 bytes"),
        (lambda b: (b / INPUT).unlink(), "file-missing", INPUT),
        (lambda b: flip(b, INPUT), "file-corrupt", INPUT),
        (lambda b: rewrite(b, MODEL, b"not a model"), "provider-unavailable", MODEL),
        (lambda b: edit(b, providers(COREML)), "provider-unavailable", COREML),
        (put("runtime", "providers", to=[]), "provider-unavailable", MODEL),
        (put("golden", 0, "inputs", to=[]), "input-missing", "'image' float32 [1, 8, 8, 1]"),
        (put("golden", 0, "inputs", 0, "shape", to=[1, 8, 8, 2]), "shape-mismatch", "[1, 8, 8, 2]"),
        (put("golden", 0, "inputs", 0, "shape", to=[8, 8]), "shape-mismatch", "is [8, 8]"),
        (pop("golden", 0, "expect", 0, "atol"), "manifest-invalid", "atol"),
        (put("golden", 0, "inputs", 0, "dtype", to="int32"), "dtype-mismatch", "int32"),
        (put("outputs", 0, "dtype", to="int64"), "dtype-mismatch", "'probabilities' int64"),
        (put("outputs", 0, "name", to="logits2"), "runtime-failed", "logits2"),
    ],
)
def test_a_spoilt_bundle_is_refused(
    spoil: Callable[[Path], object], kind: str, words: str, conv: Path, programs: Path
) -> None:
    spoil(conv)
    error = swift_self_test(conv, programs)["error"]
    assert error["kind"] == kind
    assert words in error["message"]
    if kind in ("manifest-invalid", "schema-unsupported", "bundle-not-found"):
        assert "manifest.json" in error["message"]


def test_a_second_model_file_is_checked_too(conv: Path, programs: Path) -> None:
    extra = {
        "path": "model/weights.bin",
        "size": 3,
        "sha256": hashlib.sha256(b"abc").hexdigest(),
        "role": "model",
    }
    edit(conv, lambda m: m["files"].append(extra))
    assert swift_self_test(conv, programs)["error"]["kind"] == "file-missing"
    (conv / "model" / "weights.bin").write_bytes(b"abd")
    assert swift_self_test(conv, programs)["error"]["kind"] == "file-corrupt"
    (conv / "model" / "weights.bin").write_bytes(b"abc")
    assert swift_self_test(conv, programs)["passed"]


def test_a_wrong_call_is_refused(samples: Path, programs: Path) -> None:
    good = multi_inputs(2)
    f32 = good["f32"]
    calls: list[tuple[str, str, dict[str, Any]]] = [
        (
            "input-missing",
            "'f32' float32 ['batch', 3]",
            {k: x for k, x in good.items() if k != "f32"},
        ),
        ("input-unknown", '"f33"', good | {"f33": f32}),
        (
            "dtype-mismatch",
            "'f32' float32 ['batch', 3] is float64",
            good | {"f32": f32.astype(np.float64)},
        ),
        ("shape-mismatch", "[2, 4]", good | {"f32": np.zeros((2, 4), np.float32)}),
        ("shape-mismatch", "[2, 3, 1]", good | {"f32": f32[:, :, None]}),
        ("shape-mismatch", """batch\\'": 2""", good | {"f32": np.zeros((3, 3), np.float32)}),
        (
            "shape-mismatch",
            "23 bytes do not fill float32 [2, 3]",
            good | {"f32": ("float32", [2, 3], f32.tobytes()[:-1])},
        ),
        ("shape-mismatch", "[-2, 3]", good | {"f16": ("float16", [-2, 3], b"")}),
        ("shape-mismatch", "0 bytes do not fill", good | {"f16": ("float16", [2**62, 3], b"")}),
    ]
    answers = swift_calls(samples / "multi-onnx", [call for *_, call in calls], programs=programs)[
        "answers"
    ]
    for (kind, words, _), answer in zip(calls, answers, strict=True):
        assert answer["error"]["kind"] == kind
        assert words in answer["error"]["message"]


# Providers


def test_a_provider_that_cannot_open_is_passed_over_with_its_reason(
    conv: Path, programs: Path
) -> None:
    report = swift_self_test(edit(conv, providers(COREML, CPU)), programs)["report"]
    assert report["provider"] == CPU
    assert list(report["passed_over"]) == [COREML]
    assert "not supported in this build" in report["passed_over"][COREML]


def test_the_self_test_counts_each_providers_nodes(conv: Path, programs: Path) -> None:
    # Azure's provider is in every Linux build, opens any model, and runs none of ONNX's operators.
    edit(edit(conv, providers("AzureExecutionProvider", CPU)), recorded)
    report = swift_self_test(conv, programs)["report"]
    assert (report["provider"], report["nodes"]) == ("AzureExecutionProvider", {CPU: 6})


def test_a_session_takes_a_subset_of_the_providers_in_the_order_given(
    conv: Path, programs: Path
) -> None:
    edit(conv, providers(COREML, CPU))
    assert swift_calls(conv, programs=programs, providers=[CPU])["passed_over"] == {}
    assert swift_calls(conv, programs=programs, providers=[CPU, COREML])["provider"] == CPU
    assert (
        swift_calls(conv, programs=programs, providers=[COREML])["error"]["kind"]
        == "provider-unavailable"
    )
    other = swift_calls(conv, programs=programs, providers=["XnnpackExecutionProvider", CPU])
    assert other["passed_over"] == {
        "XnnpackExecutionProvider": "provider-unavailable: not in manifest.json"
    }


def test_the_manifests_session_config_reaches_onnxruntime(conv: Path, programs: Path) -> None:
    assert swift_self_test(conv, programs)["report"]["nodes"] == {}
    assert swift_self_test(edit(conv, recorded), programs)["report"]["nodes"] == {CPU: 6}


@pytest.mark.parametrize("level", ["disabled", "basic", "extended", "all"])
def test_every_optimization_level_opens(level: str, conv: Path, programs: Path) -> None:
    put("runtime", "session", "graph_optimization_level", to=level)(conv)
    assert swift_self_test(conv, programs)["passed"]


def test_the_cache_folder_is_the_models_own(conv: Path, programs: Path, tmp_path: Path) -> None:
    edit(conv, providers(COREML, CPU, ModelCacheDirectory="${cache}"))
    home = tmp_path / "home"
    home.mkdir()
    assert swift_calls(conv, programs=programs, home=home)["provider"] == CPU
    sha256 = hashlib.sha256((conv / MODEL).read_bytes()).hexdigest()
    files = [str(p.relative_to(home)) for p in home.rglob("*") if not any(p.iterdir())]
    assert files == [f".cache/edgepack/{sha256}-{linux.VERSION}"]


def test_onnxruntime_leaves_no_telemetry_behind(
    samples: Path, programs: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    swift_calls(samples / "conv-onnx", [{"image": IMAGE}], programs=programs, home=home)
    assert list(home.rglob("*")) == []  # with telemetry on: .cache/Microsoft/DeveloperTools


# The package


def test_the_readmes_lines_run_on_the_packaged_bundle(shipped: Path, programs: Path) -> None:
    done = chroot([inside(programs / "readme")])
    expected = python_run(shipped, {"image": np.zeros((1, 8, 8, 1), np.float32)})["probabilities"]
    np.testing.assert_allclose(json.loads(done.stdout), expected[0], atol=1e-5)


def test_self_test_without_a_folder_takes_the_packaged_bundle(programs: Path) -> None:
    assert json.loads(chroot([inside(programs / "self-test")]).stdout)["passed"]


def test_a_framework_beside_the_package_takes_the_place_of_the_download(
    shipped: Path, tmp_path: Path
) -> None:
    bundle = Path(shutil.copytree(shipped, tmp_path / "conv-onnx"))

    def dump() -> tuple[list[str], list[str]]:
        done = chroot(
            [
                "swift",
                "package",
                "--package-path",
                inside(bundle),
                "--manifest-cache",
                "none",
                "dump-package",
            ]
        )
        package = json.loads(done.stdout)
        binary = [t["name"] for t in package["targets"] if t["type"] == "binary"]
        return [d["sourceControl"][0]["identity"] for d in package["dependencies"]], binary

    assert dump() == (["onnxruntime-swift-package-manager"], [])
    (bundle / "onnxruntime.xcframework").mkdir()
    assert dump() == ([], ["onnxruntime"])


def test_every_source_parses_for_ios(shipped: Path) -> None:
    sources = [inside(p) for p in sorted(shipped.rglob("*.swift"))]
    assert len(sources) == 7
    done = chroot(["swiftc", "-target", "arm64-apple-ios15.1", "-parse", *sources])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_loader_compiles_with_a_bridging_header_and_apples_frameworks(
    shipped: Path, programs: Path, tmp_path: Path
) -> None:
    """In Swift 5's mode with complete checks of concurrency; the package's own build is in Swift 6's."""
    place = inside(tmp_path)
    for name in ("CoreGraphics", "VideoToolbox"):
        fake = inside(linux.HERE / "fake-apple" / f"{name}.swift")
        emit = ["-emit-module", "-module-name", name, "-o", f"{place}/{name}.swiftmodule"]
        done = chroot(["swiftc", "-parse-as-library", *emit, "-I", place, fake])
        assert done.returncode == 0, done.stderr
    header = inside(shipped / "loader" / "COnnxRuntime" / "include" / "COnnxRuntime.h")
    sources = [inside(p) for p in sorted((shipped / "loader" / "Edgepack").iterdir())]
    flags = ["-swift-version", "5", "-strict-concurrency=complete", "-warnings-as-errors"]
    flags += ["-import-objc-header", header, "-I", place]
    flags += ["-I", inside(programs), "-I", inside(SWIFT / "include")]
    done = chroot(["swiftc", "-typecheck", "-parse-as-library", *flags, *sources])
    assert (done.returncode, done.stderr) == (0, "")


def test_the_loader_has_at_most_12_kib_of_source() -> None:
    """All that an app cannot leave out: see `test_the_loader_does_without_its_other_files`."""
    core = ("EdgepackBundle.swift", "COnnxRuntime.h", "COnnxRuntime.c")
    assert sum((linux.LOADER / name).stat().st_size for name in core) <= 12 * 1024
    sources = [p.read_text() for p in linux.LOADER.glob("*.swift")]
    assert max(len(line) for text in sources for line in text.splitlines()) <= 120


@pytest.mark.parametrize(
    "without",
    [(), ("Images", "AppleImages"), ("SelfTest",), ("Images", "AppleImages", "SelfTest", "Idioms")],
)
def test_the_loader_does_without_its_other_files(
    without: tuple[str, ...], shipped: Path, programs: Path
) -> None:
    kept = [p for p in sorted((shipped / "loader" / "Edgepack").iterdir()) if p.stem not in without]
    header = inside(shipped / "loader" / "COnnxRuntime" / "include" / "COnnxRuntime.h")
    flags = ["-swift-version", "6", "-warnings-as-errors", "-import-objc-header", header]
    flags += ["-I", inside(programs), "-I", inside(SWIFT / "include")]
    done = chroot(["swiftc", "-typecheck", "-parse-as-library", *flags, *map(inside, kept)])
    assert (done.returncode, done.stderr) == (0, "")
