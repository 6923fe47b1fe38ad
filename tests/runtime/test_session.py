"""Sessions: refused calls, the self-test, providers and what the report says of them. Answers: tests/conformance."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tests.runtime.conftest import Copy, edit, feeds_of, manifest_of, replace, with_providers

CPU = "CPUExecutionProvider"
SAMPLES = ["conv-onnx", "conv-ort", "multi-onnx", "multi-ort"]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_self_test_passes_and_covers_every_expectation(
    loader: ModuleType, samples: Path, name: str
) -> None:
    with loader.EdgepackBundle.open(samples / name).session() as session:
        outcome = session.self_test()
    assert outcome["passed"] is True
    expected = [
        (case["name"], e["name"], e["from"], e["atol"], e["rtol"])
        for case in manifest_of(samples / name)["golden"]
        for e in case["expect"]
    ]
    keys = ("case", "output", "from", "atol", "rtol")
    assert [tuple(c[k] for k in keys) for c in outcome["cases"]] == expected
    assert all(c["passed"] and c["max_abs"] <= c["atol"] for c in outcome["cases"])


def test_arrays_that_are_not_contiguous_are_taken(loader: ModuleType, samples: Path) -> None:
    feeds = _multi(samples)
    feeds["f32"] = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    with loader.EdgepackBundle.open(samples / "multi-onnx").session() as session:
        np.testing.assert_array_equal(session.run(feeds)["out_f32"], feeds["f32"])


def _multi(samples: Path) -> dict[str, np.ndarray]:
    return feeds_of(samples / "multi-onnx")


CALLS: dict[str, tuple[dict[str, Any], str, str]] = {
    "an input is missing": ({"i8": None}, "input-missing", "'i8'"),
    "an input is unknown": ({"i9": np.zeros(1)}, "input-unknown", "'i9'"),
    "float64 for float32": (
        {"f32": np.zeros((2, 3))},
        "dtype-mismatch",
        "input 'f32' is ndarray of float64, expected a numpy ndarray of float32",
    ),
    "the other byte order": ({"i32": np.zeros((2, 3), ">i4")}, "dtype-mismatch", "'i32'"),
    "a list": ({"f32": [[0.0] * 3] * 2}, "dtype-mismatch", "list of no dtype"),
    "a numpy scalar": (
        {"scalar/odd name:0": np.float32(1)},
        "dtype-mismatch",
        "'scalar/odd name:0' is float32 of float32, expected a numpy ndarray",
    ),
    "a wrong size": (
        {"f16": np.zeros((2, 4), np.float16)},
        "shape-mismatch",
        "input 'f16' has shape [2, 4], expected [batch, 3]",
    ),
    "a wrong rank": ({"b": np.zeros(3, bool)}, "shape-mismatch", "'b'"),
    "a vector for a scalar": (
        {"scalar/odd name:0": np.zeros(1, np.float32)},
        "shape-mismatch",
        "has shape [1], expected []",
    ),
    "two sizes for one name": (
        {"i64": np.zeros((7, 3), np.int64)},
        "shape-mismatch",
        "input 'i64' has shape [7, 3], expected [batch, 3], batch is 2",
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_wrong_call_is_refused_with_what_was_expected_and_what_came(
    loader: ModuleType, samples: Path, call: str
) -> None:
    change, kind, message = CALLS[call]
    feeds = {k: v for k, v in {**_multi(samples), **change}.items() if v is not None}
    session = loader.EdgepackBundle.open(samples / "multi-onnx").session()
    with pytest.raises(loader.EdgepackError) as caught:
        session.run(feeds)
    assert caught.value.kind == kind
    assert message in str(caught.value)


def test_a_closed_session_or_bundle_says_so(loader: ModuleType, samples: Path) -> None:
    with loader.EdgepackBundle.open(samples / "conv-onnx") as bundle:
        session = bundle.session()
    session.run(feeds_of(samples / "conv-onnx"))
    session.close()
    with pytest.raises(ValueError, match="the session is closed"):
        session.run(feeds_of(samples / "conv-onnx"))
    with pytest.raises(ValueError, match="the bundle is closed"):
        bundle.session()


# --- self-test: it must be able to fail ---------------------------------------------------------------


def _expect(
    bundle: Path, name: str, values: list[Any] | np.ndarray, atol: float = 0, rtol: float = 0
) -> None:
    """Case 0 of `bundle` expects `values` of output `name`, and nothing else."""
    manifest = manifest_of(bundle)
    want = next(e for e in manifest["golden"][0]["expect"] if e["name"] == name)
    data = np.asarray(values, want["dtype"])
    want.update(atol=atol, rtol=rtol, shape=list(data.shape))
    manifest["golden"] = [{**manifest["golden"][0], "expect": [want]}]
    edit(bundle, lambda m: m.update(manifest))
    replace(bundle, want["path"], data.tobytes())


def _feed(bundle: Path, name: str, values: list[Any] | np.ndarray) -> None:
    given = next(g for g in manifest_of(bundle)["golden"][0]["inputs"] if g["name"] == name)
    replace(bundle, given["path"], np.asarray(values, given["dtype"]).tobytes())


def _only_case(loader: ModuleType, bundle: Path) -> dict[str, Any]:
    outcome = loader.EdgepackBundle.open(bundle).session().self_test()
    (case,) = outcome["cases"]
    assert outcome["passed"] is case["passed"]
    return case


def test_one_altered_expectation_fails_the_self_test_and_only_there(
    loader: ModuleType, copy: Copy
) -> None:
    bundle = copy("conv-onnx")
    path = "golden/1/shipped-0.bin"
    values = np.fromfile(bundle / path, np.float32)
    values[3] += 0.01
    replace(bundle, path, values.tobytes())
    outcome = loader.EdgepackBundle.open(bundle).session().self_test()
    assert outcome["passed"] is False
    missed = [c for c in outcome["cases"] if not c["passed"]]
    assert [(c["case"], c["from"]) for c in missed] == [("1", "shipped")]
    assert missed[0]["max_abs"] == pytest.approx(0.01, rel=1e-3)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("got", "want", "atol", "rtol", "passes", "max_abs"),
    [
        (1.0, 1.5, 0.5, 0.0, True, 0.5),
        (1.0, 1.5, 0.49, 0.0, False, 0.5),
        (3.0, 2.0, 0.0, 0.5, True, 1.0),
        (2.0, 3.0, 0.0, 0.3, False, 1.0),
        (2.0, 3.0, 0.0, 0.4, True, 1.0),
        (NAN, NAN, 0.0, 0.0, True, 0.0),
        (INF, INF, 0.0, 0.0, True, 0.0),
        (-INF, INF, 1e9, 1e9, False, None),
        (1.0, INF, 1e9, 1e9, False, None),
        (INF, 1.0, 1e9, 1e9, False, None),
        (NAN, 1.0, 1e9, 1e9, False, None),
        (1.0, NAN, 1e9, 1e9, False, None),
    ],
)
@pytest.mark.parametrize("name", ["f16", "f32"])
def test_floats_are_compared_by_the_contracts_formula(
    loader: ModuleType,
    copy: Copy,
    name: str,
    got: float,
    want: float,
    atol: float,
    rtol: float,
    passes: bool,
    max_abs: float | None,
) -> None:
    bundle = copy("multi-onnx")
    _feed(bundle, name, [[0, 0, 0], [0, got, 0]])
    _expect(bundle, f"out_{name}", [[0, 0, 0], [0, want, 0]], atol, rtol)
    case = _only_case(loader, bundle)
    assert (case["passed"], case["max_abs"]) == (passes, max_abs)


@pytest.mark.parametrize(
    ("name", "got", "want", "atol", "passes", "max_abs"),
    [
        ("i64", 2**62, 2**62 + 1, 0.5, False, 1.0),
        ("i64", -(2**63), 2**63 - 1, 1.0, False, 2.0**64),
        ("i8", -128, 127, 254.0, False, 255.0),
        ("i8", -128, 127, 255.0, True, 255.0),
        ("u8", 0, 255, 254.0, False, 255.0),
        ("i32", -1, 1, 2.0, True, 2.0),
        ("b", True, False, 0.5, False, 1.0),
        ("b", True, True, 0.0, True, 0.0),
    ],
)
def test_integers_and_bool_are_compared_exactly(
    loader: ModuleType,
    copy: Copy,
    name: str,
    got: int,
    want: int,
    atol: float,
    passes: bool,
    max_abs: float,
) -> None:
    bundle = copy("multi-onnx")
    _feed(bundle, name, [[0, 0, got], [0, 0, 0]])
    _expect(bundle, f"out_{name}", [[0, 0, want], [0, 0, 0]], atol)
    case = _only_case(loader, bundle)
    assert (case["passed"], case["max_abs"]) == (passes, max_abs)


def test_an_answer_of_another_shape_fails_and_says_which(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("multi-onnx")
    _expect(bundle, "sum", np.zeros((1, 6)), 1e9)
    case = _only_case(loader, bundle)
    assert (case["passed"], case["max_abs"]) == (False, None)
    assert case["why"] == "float32 [2, 3], expected float32 [1, 6]"


def test_a_changed_golden_file_is_refused_when_it_is_read(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    (bundle / "golden/2/source-0.bin").write_bytes(bytes(40))
    session = loader.EdgepackBundle.open(bundle).session()
    with pytest.raises(loader.EdgepackError, match="golden/2/source-0") as caught:
        session.self_test()
    assert caught.value.kind == "file-corrupt"


def test_nothing_tested_is_not_passed(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    edit(bundle, lambda m: m.update(golden=[]))
    outcome = loader.EdgepackBundle.open(bundle).session().self_test()
    assert outcome == {"passed": False, "cases": []}


# --- providers ----------------------------------------------------------------------------------------


def test_providers_of_other_devices_are_passed_over_with_a_reason(
    loader: ModuleType, copy: Copy
) -> None:
    bundle = copy("conv-onnx")
    others = ["CoreMLExecutionProvider", "XnnpackExecutionProvider", "WebGpuExecutionProvider"]
    with_providers(bundle, *others, CPU, ModelFormat="MLProgram", folder="${cache}")
    edit(bundle, lambda m: m["runtime"].update(language="swift", package="onnxruntime-objc"))
    session = loader.EdgepackBundle.open(bundle).session()
    why = f"onnxruntime {onnxruntime.__version__} is built without it"
    assert session.report()["passed_over"] == dict.fromkeys(others, why)
    assert session.report()["provider"] == CPU
    assert session.self_test()["passed"]


def test_the_report_counts_nodes_where_onnxruntime_can_tell(
    loader: ModuleType, samples: Path
) -> None:
    report = loader.EdgepackBundle.open(samples / "conv-onnx").session().report()
    manifest = manifest_of(samples / "conv-onnx")
    tells = hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info")
    assert report == {
        "provider": CPU,
        "proven": True,
        "nodes": {CPU: 6} if tells else None,  # onnxruntime 1.24 and newer
        "fallback": [],
        "passed_over": {},
        "runtime_version": onnxruntime.__version__,
        "model_sha256": manifest["files"][-1]["sha256"],
        "precision": "fp32",
        "engine_cache": None,
    }
    assert loader.EdgepackBundle.open(samples / "conv-ort").session().report()["nodes"] is None


def test_no_provider_at_all_is_an_error_with_every_reason(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    with_providers(bundle, "QnnExecutionProvider", "CoreMLExecutionProvider")
    with pytest.raises(loader.EdgepackError) as caught:
        loader.EdgepackBundle.open(bundle).session()
    assert caught.value.kind == "provider-unavailable"
    assert "QnnExecutionProvider: onnxruntime" in str(caught.value)
    assert "CoreMLExecutionProvider: onnxruntime" in str(caught.value)


def test_a_model_onnxruntime_cannot_read_is_an_error_with_its_words(
    loader: ModuleType, copy: Copy
) -> None:
    bundle = copy("conv-onnx")
    replace(bundle, "model/conv-onnx.onnx", b"no protobuf")
    with pytest.raises(loader.EdgepackError, match="INVALID_PROTOBUF") as caught:
        loader.EdgepackBundle.open(bundle).session()
    assert caught.value.kind == "provider-unavailable"


def test_a_caller_may_choose_among_the_providers_only(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    with_providers(bundle, "CoreMLExecutionProvider", CPU)
    opened = loader.EdgepackBundle.open(bundle)
    assert opened.session([CPU]).report()["passed_over"] == {}
    with pytest.raises(loader.EdgepackError, match="CUDAExecutionProvider") as caught:
        opened.session(["CUDAExecutionProvider"])
    assert caught.value.kind == "provider-unavailable"


def test_another_languages_minimum_is_not_held_against_this_onnxruntime(
    loader: ModuleType, copy: Copy
) -> None:
    bundle = copy("conv-onnx")
    edit(bundle, lambda m: m["runtime"].update(min_version="99.0.0", language="kotlin"))
    assert loader.EdgepackBundle.open(bundle).session().self_test()["passed"]


@pytest.mark.parametrize(
    ("have", "need", "enough"),
    [
        ("1.20.0", "1.20.0", True),
        ("1.9.1", "1.20.0", False),
        ("1.20.1", "1.20", True),
        ("2.0.0", "1.20.3", True),
        ("1.20.0+cu126.jp6", "1.20.0", True),
        ("1.19.2.dev20240901", "1.20.0", False),
    ],
)
def test_versions_are_compared_by_number(
    loader: ModuleType,
    copy: Copy,
    monkeypatch: pytest.MonkeyPatch,
    have: str,
    need: str,
    enough: bool,
) -> None:
    bundle = copy("conv-onnx")
    edit(bundle, lambda m: m["runtime"].update(min_version=need))
    monkeypatch.setattr(onnxruntime, "__version__", have)
    opened = loader.EdgepackBundle.open(bundle)
    if enough:
        assert opened.session().report()["runtime_version"] == have
    else:
        with pytest.raises(loader.EdgepackError, match=f"needs {need}"):
            opened.session()


def test_without_onnxruntime_the_error_says_so(
    loader: ModuleType, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(loader.EdgepackError, match="no onnxruntime") as caught:
        loader.EdgepackBundle.open(samples / "conv-onnx").session()
    assert caught.value.kind == "provider-unavailable"


def test_session_settings_reach_onnxruntime(
    loader: ModuleType, copy: Copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = copy("conv-onnx")
    settings = {
        "graph_optimization_level": "basic",
        "intra_op_num_threads": 2,
        "config": {"session.intra_op.allow_spinning": "0"},
    }
    edit(bundle, lambda m: m["runtime"].update(session=settings))
    opened = loader.EdgepackBundle.open(bundle)
    seen = []
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda model, options, **rest: seen.append(options) or real(model, options, **rest),
    )
    opened.session()
    opened.session(threads=1)
    assert [o.intra_op_num_threads for o in seen] == [2, 1]
    for options in seen:
        level = options.graph_optimization_level
        assert level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_telemetry_is_off_before_onnxruntime_loads(
    loader: ModuleType, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    called = []
    monkeypatch.setattr(onnxruntime, "disable_telemetry_events", lambda: called.append(True))
    loader.EdgepackBundle.open(samples / "conv-onnx").session()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert called == [True]


def test_warming_up_runs_the_first_golden_case(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    session = loader.EdgepackBundle.open(bundle).session()
    assert session.warm_up() is True
    replace(bundle, "golden/0/input-0.bin", bytes(256))
    edit(bundle, lambda m: m.update(golden=[]))
    assert loader.EdgepackBundle.open(bundle).session().warm_up() is False
    with pytest.raises(loader.EdgepackError, match="golden/0/input-0"):
        session.warm_up()
