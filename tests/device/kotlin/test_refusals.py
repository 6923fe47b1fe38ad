"""What the loader refuses, under which kind, in which words (runtime/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.kotlin.bundles import Copy, image, refused, set_at, seven
from tests.device.kotlin.jvm import Jvm, LoaderError, tensors


@pytest.mark.parametrize("source", ["folder", "bytes", "assets", "compressed assets"])
def test_a_place_without_a_manifest_is_no_bundle(jvm: Jvm, tmp_path: Path, source: str) -> None:
    error = refused(jvm, tmp_path, source=source)
    assert error.kind == "bundle-not-found"
    assert tmp_path.name in error.message or source == "bytes"


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", "MANIFEST x", "MANIFESTMANIFEST", "[" * 200_000]
)
def test_what_is_not_one_json_object_is_refused(jvm: Jvm, copy: Copy, text: str) -> None:
    manifest = copy("conv-ort").folder / "manifest.json"
    manifest.write_text(text.replace("MANIFEST", manifest.read_text()))
    error = refused(jvm, manifest.parent)
    assert error.kind == "manifest-invalid"
    assert "manifest.json: not one JSON object" in error.message


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("schema", ..., "schema is null"),
        ("schema", "1", "schema is 1, no Integer"),
        ("critical", ..., "critical is null"),
        ("critical", "golden", "critical is golden, no JSONArray"),
        ("inputs", {}, "inputs is {}, no JSONArray"),
        ("inputs.0", 3, "inputs[0] is 3, no JSONObject"),
        ("inputs.0.name", 3, "name is 3, no String"),
        ("inputs.0.dtype", "float", 'dtype of image={"'),
        ("inputs.0.shape.1", -8, 'shape of image={"'),
        ("inputs.0.shape.1", 8.5, "has 8.5"),
        ("outputs.0.shape", None, "shape is null, no JSONArray"),
        ("model", [], "model is [], no JSONObject"),
        ("model.path", "model/other.ort", "files lists no model/other.ort of role model"),
        ("model.path", "golden/0/input-0.bin", "files lists no golden/0/input-0.bin of role"),
        ("runtime.min_version", 1.29, "min_version is 1.29, no String"),
        ("runtime.providers.0.options", {"a": 1}, "a is 1, no String"),
        ("runtime.session.config", ..., "config is null"),
        ("runtime.session.graph_optimization_level", "fast", "graph_optimization_level is fast"),
        ("runtime.session.graph_optimization_level", 3, "graph_optimization_level is 3, no String"),
        ("runtime.session.intra_op_num_threads", True, "intra_op_num_threads is true, no Integer"),
        ("golden", ..., "golden is null"),
        ("golden.0.expect.0.atol", "0", "atol is 0, no Number"),
        ("golden.0.inputs.0.path", "golden/9.bin", "files does not list golden/9.bin"),
        ("golden.0.inputs.0.shape.0", "1", "shape[0] is 1, no Integer"),
        ("files.0.size", 2**31, "size is 2147483648, no Integer"),
        ("files.0.sha256", 7, "sha256 is 7, no String"),
        ("files.0.role", ..., "role is null"),
    ],
)
def test_manifest_errors_name_the_field_the_value_and_what_was_expected(
    jvm: Jvm, copy: Copy, path: str, value: object, message: str
) -> None:
    error = refused(jvm, copy("conv-ort").edit(set_at(path, value)))
    assert error.kind == "manifest-invalid"
    assert message in error.message


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "model/../../x", "..", "a//b", "./a", "a\\..\\b", "a/", ""]
)
def test_paths_out_of_the_bundle_are_refused(jvm: Jvm, copy: Copy, path: str) -> None:
    def move(manifest: dict[str, Any]) -> None:
        for file in (manifest["files"][0], manifest["golden"][0]["inputs"][0]):
            file["path"] = path

    error = refused(jvm, copy("conv-ort").edit(move))
    assert error.kind == "manifest-invalid"
    assert f"{path} is not inside the bundle" in error.message


def test_a_newer_schema_is_refused_whatever_else_it_holds(jvm: Jvm, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema": 2, "critical": []}')
    error = refused(jvm, tmp_path)
    assert error.kind == "schema-unsupported"
    assert "schema 2, critical []" in error.message


def test_a_critical_field_is_refused(jvm: Jvm, copy: Copy) -> None:
    error = refused(jvm, copy("conv-ort").edit(set_at("critical", ["encryption"])))
    assert error.kind == "schema-unsupported"
    assert "[encryption]" in error.message


def test_unknown_fields_are_ignored(jvm: Jvm, copy: Copy) -> None:
    assert jvm.self_test(copy("conv-ort").edit(set_at("encryption", {"key": 1})))["passed"]


@pytest.mark.parametrize("path", ["model/conv-ort.ort", "golden/2/source-0.bin"])
def test_missing_and_changed_files_are_found(jvm: Jvm, copy: Copy, path: str) -> None:
    bundle = copy("conv-ort").folder
    good = (bundle / path).read_bytes()

    (bundle / path).write_bytes(bytes([good[0] ^ 1]) + good[1:])
    error = refused(jvm, bundle)
    assert error.kind == "file-corrupt"
    assert f"{path} has {len(good)} bytes, SHA-256 " in error.message

    (bundle / path).write_bytes(good[:-1])
    error = refused(jvm, bundle)
    assert error.kind == "file-corrupt"
    assert f"{path} has {len(good) - 1} bytes" in error.message
    assert f'"size":{len(good)}' in error.message

    (bundle / path).unlink()
    error = refused(jvm, bundle)
    assert error.kind == "file-missing"
    assert path in error.message


@pytest.mark.parametrize("minimum", ["99.0.0", "1.29.1", "1.100.0"])
def test_an_older_runtime_is_refused(jvm: Jvm, copy: Copy, minimum: str) -> None:
    error = refused(jvm, copy("conv-ort").edit(set_at("runtime.min_version", minimum)))
    assert error.kind == "runtime-too-old"
    assert "1.29.0" in error.message
    assert minimum in error.message


@pytest.mark.parametrize("minimum", ["1.29.0", "1.9.99", "0.30.0"])
def test_versions_are_compared_as_numbers(jvm: Jvm, copy: Copy, minimum: str) -> None:
    assert jvm.self_test(copy("conv-ort").edit(set_at("runtime.min_version", minimum)))["passed"]


@pytest.mark.parametrize(
    ("kind", "message", "change"),
    [
        ("input-missing", "'f32' is not among [", {"f32": None}),
        ("input-unknown", "f33", {"f33": np.zeros(3, np.float32)}),
        ("dtype-mismatch", "'i8' is uint8, expected int8", {"i8": np.zeros((2, 3), np.uint8)}),
        (
            "shape-mismatch",
            "'u8' is [2, 4], expected [batch, 3], {batch=2}",
            {"u8": np.zeros((2, 4), "u1")},
        ),
        ("shape-mismatch", "is [2, 3, 1], expected", {"u8": np.zeros((2, 3, 1), np.uint8)}),
        ("shape-mismatch", "is [3, 3], expected", {"i32": np.zeros((3, 3), np.int32)}),
        ("shape-mismatch", "{batch=2}", {"i32": np.zeros((3, 3), np.int32)}),
        ("shape-mismatch", "is [1], expected []", {"scalar/odd name:0": np.zeros(1, np.float32)}),
    ],
)
def test_wrong_inputs_are_named(
    jvm: Jvm, samples: Path, kind: str, message: str, change: dict[str, np.ndarray | None]
) -> None:
    inputs = {name: x for name, x in (seven(2) | change).items() if x is not None}
    with pytest.raises(LoaderError) as error:
        jvm.run(samples / "multi-ort", inputs)
    assert error.value.kind == kind
    assert message in error.value.message


@pytest.mark.parametrize("shape", [[1, 8, 8, 2], [2**31 - 1] * 4, [-1, -8, 8, 1], [65536] * 4])
def test_data_that_do_not_fill_the_shape_are_refused(
    jvm: Jvm, samples: Path, shape: list[int]
) -> None:
    (given,) = tensors(image())
    with pytest.raises(LoaderError) as error:
        jvm.ask("run", bundle=samples / "conv-ort", inputs=[given | {"shape": shape}])
    assert error.value.kind == "shape-mismatch"


def test_an_output_of_another_dtype_than_listed_is_not_misread(jvm: Jvm, copy: Copy) -> None:
    error = refused(jvm, copy("conv-ort").edit(set_at("outputs.0.dtype", "int32")))
    assert error.kind == "dtype-mismatch"
    assert "output 'probabilities' is FLOAT, expected int32" in error.message
