"""Opening: what is refused, under which kind, and that the message names what is wrong."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.runtime.conftest import LOADER, Copy, edit, manifest_of, replace


def refusal(loader: ModuleType, bundle: Path) -> tuple[str, str]:
    with pytest.raises(loader.EdgepackError) as caught:
        loader.EdgepackBundle.open(bundle)
    return caught.value.kind, str(caught.value)


def test_a_folder_without_manifest_is_no_bundle(loader: ModuleType, tmp_path: Path) -> None:
    kind, message = refusal(loader, tmp_path)
    assert kind == "bundle-not-found"
    assert str(tmp_path) in message
    assert refusal(loader, tmp_path / "nowhere")[0] == "bundle-not-found"


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(node: Any) -> None:
        for key in keys[:-1]:
            node = node[key]
        if to is KeyError:
            del node[keys[-1]]
        else:
            node[keys[-1]] = to

    return change


FLAWS = {
    "schema of a wrong type": (_set("schema", to="1"), "schema"),
    "schema is true": (_set("schema", to=True), "schema"),
    "critical missing": (_set("critical", to=KeyError), "critical is missing"),
    "model missing": (_set("model", to=KeyError), "model is missing"),
    "model of a wrong type": (_set("model", to=[]), "model is a list, expected an object"),
    "inputs of a wrong type": (_set("inputs", to={}), "inputs is an object, expected a list"),
    "unknown dtype": (_set("inputs", 0, "dtype", to="complex64"), "inputs[0].dtype"),
    "negative size in a shape": (_set("outputs", 0, "shape", 1, to=-1), "outputs[0].shape[1]"),
    "fraction in a shape": (_set("inputs", 0, "shape", 1, to=8.5), "inputs[0].shape[1]"),
    "input named twice": (
        lambda m: m["inputs"].append(m["inputs"][0]),
        "inputs has a name twice",
    ),
    "file listed twice": (lambda m: m["files"].append(m["files"][0]), "files has a path twice"),
    "version without sense": (_set("runtime", "min_version", to="new"), "min_version"),
    "option that is no text": (
        _set("runtime", "providers", 0, "options", to={"a": 1}),
        "runtime.providers[0].options",
    ),
    "unknown optimization level": (
        _set("runtime", "session", "graph_optimization_level", to="most"),
        "graph_optimization_level",
    ),
    "negative bound": (_set("golden", 0, "expect", 0, "atol", to=-1), "golden[0].expect[0].atol"),
    "bound is no number": (_set("golden", 0, "expect", 0, "rtol", to=True), "expect[0].rtol"),
    "negative file size": (_set("files", 0, "size", to=-1), "files[0].size"),
    "model not listed": (_set("model", "path", to="model/other.onnx"), "model/other.onnx"),
    "golden file as model": (_set("model", "path", to="golden/0/input-0.bin"), "role model"),
    "golden input of an unknown name": (
        _set("golden", 0, "inputs", 0, "name", to="picture"),
        "inputs has no 'picture'",
    ),
    "golden answer of an unknown name": (
        _set("golden", 0, "expect", 0, "name", to="logits"),
        "outputs has no 'logits'",
    ),
    "golden file not listed": (_set("golden", 0, "inputs", 0, "path", to="x.bin"), "x.bin"),
    "golden shape larger than its file": (
        _set("golden", 0, "inputs", 0, "shape", to=[1000000, 1000000, 1000000]),
        "golden/0/input-0.bin has 256 bytes",
    ),
    "free dimension in a golden shape": (
        _set("golden", 0, "inputs", 0, "shape", 0, to="batch"),
        "golden[0].inputs[0].shape[0]",
    ),
}


@pytest.mark.parametrize("flaw", FLAWS)
def test_a_flawed_manifest_is_refused_with_the_place_of_the_flaw(
    loader: ModuleType, copy: Copy, flaw: str
) -> None:
    bundle = copy("conv-onnx")
    change, place = FLAWS[flaw]
    edit(bundle, change)
    kind, message = refusal(loader, bundle)
    assert kind == "manifest-invalid"
    assert place in message


@pytest.mark.parametrize(
    "path",
    [
        *("/etc/passwd", "../outside.bin", "golden/../../outside.bin", "golden\\0", "a//b"),
        *("./a", "a/", ".", "", "a\0b", "a\nb", "\ud800", 7),
    ],
)
def test_an_unsafe_path_is_refused_before_any_file_is_read(
    loader: ModuleType, copy: Copy, path: object
) -> None:
    bundle = copy("conv-onnx")
    manifest = manifest_of(bundle)
    manifest["model"]["path"] = manifest["files"][-1]["path"] = path
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    (bundle / "model" / "conv-onnx.onnx").unlink()
    kind, message = refusal(loader, bundle)
    assert kind == "manifest-invalid"
    assert "model.path is" in message
    assert "expected a path inside the bundle" in message


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_python_only_numbers_are_refused_even_in_unknown_fields(
    loader: ModuleType, copy: Copy, word: str
) -> None:
    bundle = copy("conv-onnx")
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text('{"note":' + word + "," + text[1:])
    assert refusal(loader, bundle) == ("manifest-invalid", f"manifest.json: {word} is not JSON")


def test_a_key_that_is_there_twice_is_refused(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"size":', '"size":1,"size":', 1))
    assert refusal(loader, bundle) == (
        "manifest-invalid",
        "manifest.json: the key 'size' is there twice",
    )


def test_a_newer_schema_and_an_unknown_critical_field_are_refused(
    loader: ModuleType, copy: Copy
) -> None:
    bundle = copy("conv-onnx")
    edit(bundle, _set("critical", to=["encryption"]))
    kind, message = refusal(loader, bundle)
    assert kind == "schema-unsupported"
    assert "encryption" in message
    # A newer schema may look different in every other respect.
    (bundle / "manifest.json").write_text('{"schema": 2, "critical": []}')
    kind, message = refusal(loader, bundle)
    assert kind == "schema-unsupported"
    assert "schema is 2" in message


def test_unknown_fields_are_accepted(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    edit(bundle, lambda m: m.update(note="x", model={**m["model"], "y": 1}))
    loader.EdgepackBundle.open(bundle)


def test_a_changed_or_missing_model_is_refused(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    model = bundle / "model" / "conv-onnx.onnx"
    data = bytearray(model.read_bytes())
    data[1000] ^= 1
    model.write_bytes(data)
    kind, message = refusal(loader, bundle)
    assert kind == "file-corrupt"
    assert "model/conv-onnx.onnx has SHA-256" in message
    model.write_bytes(data[:-1])
    kind, message = refusal(loader, bundle)
    assert kind == "file-corrupt"
    assert f"has {len(data) - 1} bytes, the manifest says {len(data)}" in message
    model.unlink()
    kind, message = refusal(loader, bundle)
    assert kind == "file-missing"
    assert "model/conv-onnx.onnx" in message


def test_a_link_out_of_the_bundle_is_refused_though_its_bytes_are_right(
    loader: ModuleType, copy: Copy, tmp_path: Path
) -> None:
    bundle = copy("conv-onnx")
    model = bundle / "model" / "conv-onnx.onnx"
    model.rename(tmp_path / "outside.onnx")
    model.symlink_to(tmp_path / "outside.onnx")
    assert refusal(loader, bundle) == (
        "file-corrupt",
        "model/conv-onnx.onnx is a link out of the bundle",
    )


def test_a_pipe_in_the_place_of_a_file_does_not_hang(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    replace(bundle, "model/conv-onnx.onnx", b"")  # the size of a pipe
    (bundle / "model/conv-onnx.onnx").unlink()
    os.mkfifo(bundle / "model/conv-onnx.onnx")
    assert refusal(loader, bundle) == (
        "file-corrupt",
        "model/conv-onnx.onnx is not a regular file",
    )


def test_check_accepts_what_was_written_and_signatures(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("multi-ort")
    for name in ("manifest.sig", "manifest.sig.pem", "manifest.json.sigstore"):
        (bundle / name).write_text("x")
    loader.EdgepackBundle.open(bundle).check()


def test_check_lists_every_extra_missing_and_changed_file(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    opened = loader.EdgepackBundle.open(bundle)
    (bundle / "golden/0/input-0.bin").unlink()
    (bundle / "golden/1/input-0.bin").write_bytes(b"x" * 256)
    (bundle / "golden/2/input-0.bin").write_bytes(b"x")
    (bundle / ".git").mkdir()
    (bundle / ".git" / "config").write_text("x")
    (bundle / "golden" / "manifest.sig").write_text("a signature lies at the top only")
    (bundle / "link").symlink_to("manifest.json")
    with pytest.raises(loader.EdgepackError) as caught:
        opened.check()
    assert caught.value.kind == "file-corrupt"
    lines = str(caught.value).split("\n  ")
    assert [line.split()[0].rstrip(":") for line in lines[1:]] == [
        *("golden/0/input-0.bin", "golden/1/input-0.bin", "golden/2/input-0.bin"),
        *(".git/config", "golden/manifest.sig", "link"),
    ]


def test_check_refuses_a_link_inside_the_bundle(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    (bundle / "golden/0/source-0.bin").unlink()
    (bundle / "golden/0/source-0.bin").symlink_to("shipped-0.bin")  # of the same bytes
    with pytest.raises(loader.EdgepackError, match=r"source-0.bin is not a regular file"):
        loader.EdgepackBundle.open(bundle).check()


def test_check_says_file_missing_if_that_is_all(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    opened = loader.EdgepackBundle.open(bundle)
    (bundle / "golden/0/input-0.bin").unlink()
    with pytest.raises(loader.EdgepackError) as caught:
        opened.check()
    assert caught.value.kind == "file-missing"


def test_every_model_file_is_checked_not_only_the_first(loader: ModuleType, copy: Copy) -> None:
    bundle = copy("conv-onnx")
    extra = {"path": "model/weights.bin", "size": 0, "sha256": "0" * 64, "role": "model"}
    edit(bundle, lambda m: m["files"].append(extra))
    replace(bundle, "model/weights.bin", b"weights")
    loader.EdgepackBundle.open(bundle)
    (bundle / "model/weights.bin").write_bytes(b"Weights")
    assert refusal(loader, bundle)[0] == "file-corrupt"


def test_opening_imports_neither_numpy_nor_onnxruntime(copy: Copy) -> None:
    program = (
        "import sys, edgepack_loader as e; e.EdgepackBundle.open(sys.argv[1]).check();"
        "sys.exit(bool({'numpy', 'onnxruntime'} & set(sys.modules)))"
    )
    command = [sys.executable, "-B", "-c", program, copy("conv-onnx")]
    environment = {**os.environ, "PYTHONPATH": str(LOADER.parent)}
    subprocess.run(command, env=environment, check=True, timeout=60)


def test_the_loader_parses_as_python_3_8() -> None:
    ast.parse(LOADER.read_text(encoding="utf-8"), feature_version=(3, 8))


def test_runtime_yaml_lists_every_file_of_the_loader() -> None:
    listed = yaml.safe_load((LOADER.parent / "runtime.yaml").read_text())["files"]
    here = {p.name for p in LOADER.parent.iterdir() if p.is_file()} - {"runtime.yaml"}
    assert set(listed) == here
