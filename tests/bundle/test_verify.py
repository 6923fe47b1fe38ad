"""Verifying and running finished bundles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepack
from edgepack.errors import BundleError, DataError, EdgepackError
from tests.bundle.conftest import Bundle
from tests.models import images


def change(bundle: Path, **fields: Any) -> None:
    """Merge `fields` into the manifest: what somebody who knows the format could do."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_bytes())
    for key, value in fields.items():
        data[key] = {**data[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(data))


def add(bundle: Path, name: str, text: str, role: str = "loader") -> None:
    """Put a file into the bundle and list it in the manifest."""
    (bundle / name).parent.mkdir(parents=True, exist_ok=True)
    (bundle / name).write_text(text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    entry = {"path": name, "size": len(text.encode()), "sha256": digest, "role": role}
    files = json.loads((bundle / "manifest.json").read_bytes())["files"]
    change(bundle, files=[*(f for f in files if f["path"] != name), entry])


def test_a_python_bundle_is_verified_through_its_own_loader(built: Path) -> None:
    result = edgepack.verify(built / "tiny-jetson-orin")
    assert result.passed
    assert (result.loader, result.why) == ("python", "")
    assert {c["from"] for c in result.cases} == {"shipped", "source"}
    assert len(result.cases) == 6
    assert result.report["provider"] == "CPUExecutionProvider"


def test_a_phones_bundle_is_verified_through_the_python_loader_and_says_so(built: Path) -> None:
    result = edgepack.verify(built / "tiny-android")
    assert result.passed
    assert result.loader == "python"
    assert "runs on the device" in result.why


def test_verifying_leaves_the_bundle_as_it_was(bundle: Bundle) -> None:
    place = bundle("jetson-orin")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    edgepack.verify(place)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


def test_a_golden_miss_is_no_pass(bundle: Bundle) -> None:
    place = bundle("android")
    expected = place / "golden" / "1" / "shipped-0.bin"
    values = np.frombuffer(expected.read_bytes(), np.float32) + 1
    expected.write_bytes(values.tobytes())
    files = json.loads((place / "manifest.json").read_bytes())["files"]
    for file in files:
        if file["path"] == "golden/1/shipped-0.bin":
            file["sha256"] = hashlib.sha256(values.tobytes()).hexdigest()
    change(place, files=files)
    result = edgepack.verify(place)
    assert not result.passed
    missed = [(c["case"], c["from"]) for c in result.cases if not c["passed"]]
    assert missed == [("1", "shipped")]


def test_a_damaged_bundle_is_refused_before_its_model_is_opened(bundle: Bundle) -> None:
    place = bundle("android")
    (place / "model" / "tiny.ort").write_bytes(b"junk")
    with pytest.raises(BundleError, match=r"model/tiny\.ort has 4 bytes"):
        edgepack.verify(place)


@pytest.mark.parametrize(
    "name",
    ["loader/numpy.py", "loader/numpy/__init__.py", "loader/json.py", "loader/onnxruntime.py"],
)
def test_verifying_runs_no_code_that_a_bundle_brings_along(
    bundle: Bundle, tmp_path: Path, name: str
) -> None:
    place = bundle("jetson-orin")
    add(place, name, f"open({str(tmp_path / 'ran')!r}, 'w')\nraise ImportError('caught')")
    result = edgepack.verify(place)
    assert not (tmp_path / "ran").exists()
    assert "not the one this edgepack ships" in result.why


@pytest.mark.parametrize("name", ["node_modules/onnxruntime-web/index.js", "package.json"])
def test_verifying_lets_node_find_no_code_of_the_bundles(bundle: Bundle, name: str) -> None:
    place = bundle("web")
    add(place, name, '{"name": "onnxruntime-web", "exports": "./golden/0/input-0.bin"}')
    result = edgepack.verify(place)
    assert result.loader == "python"
    assert "not the one this edgepack ships" in result.why


def test_verifying_does_not_run_a_changed_loader(bundle: Bundle, tmp_path: Path) -> None:
    place = bundle("jetson-orin")
    add(place, "loader/edgepack_loader.py", f"open({str(tmp_path / 'ran')!r}, 'w')")
    result = edgepack.verify(place)
    assert not (tmp_path / "ran").exists()
    assert result.passed
    assert "not the one this edgepack ships" in result.why


def test_verifying_runs_no_command_that_a_bundle_names(bundle: Bundle, tmp_path: Path) -> None:
    place = bundle("jetson-orin")
    command = (
        f"language: x\nfiles: {{}}\nself_test: {{needs: [], command: [touch, {tmp_path / 'ran'}]}}"
    )
    add(place, "runtime.yaml", command)
    change(place, runtime={"language": str(place)})
    with pytest.raises(EdgepackError):
        edgepack.verify(place)
    assert not (tmp_path / "ran").exists()


# run


@pytest.mark.parametrize("target", ["jetson-orin", "android", "web"])
def test_running_gives_outputs_by_name(built: Path, target: str) -> None:
    outputs = edgepack.run(built / f"tiny-{target}", {"image": images(1)})
    assert list(outputs) == ["probabilities"]
    assert outputs["probabilities"].shape == (1, 10)
    assert outputs["probabilities"].sum() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("feeds", "named"),
    [
        ({}, "image"),
        ({"image": images(1), "size": images(1)}, "size"),
        ({"image": images(1).astype(np.float64)}, "float64"),
        ({"image": images(2)}, "[2, 8, 8, 1]"),
        ({"image": images(1)[..., 0]}, "[1, 8, 8]"),
    ],
)
def test_a_wrong_input_is_refused_by_name(
    built: Path, feeds: dict[str, np.ndarray], named: str
) -> None:
    with pytest.raises(DataError) as caught:
        edgepack.run(built / "tiny-android", feeds)
    assert named in caught.value.cause
    assert "edgepack inspect" in caught.value.fix


def test_running_a_damaged_bundle_is_refused(bundle: Bundle) -> None:
    place = bundle("android")
    (place / "model" / "tiny.ort").write_bytes(b"junk")
    with pytest.raises(BundleError, match=r"tiny\.ort"):
        edgepack.run(place, {"image": images(1)})


# inspect


def test_inspecting_a_bundle_shows_precision_steps_and_sizes(built: Path) -> None:
    data = edgepack.inspect(built / "tiny-jetson-orin")
    assert data["kind"] == "bundle"
    assert data["precision"]["chosen"] == "int8"
    assert [s["step"] for s in data["steps"]] == ["convert", "opset", "shapes", "simplify", "int8"]
    total = sum(p.stat().st_size for p in (built / "tiny-jetson-orin").rglob("*") if p.is_file())
    manifest = (built / "tiny-jetson-orin" / "manifest.json").stat().st_size
    assert data["sizes"]["total"] == total - manifest


def test_inspecting_a_model_counts_operators_and_parameters(built: Path) -> None:
    data = edgepack.inspect(built / "tiny.onnx")
    assert (data["kind"], data["format"], data["opset"]) == ("model", "onnx", 17)
    assert data["operators"]["Conv"] == 1
    # Conv 8·9 + 8, normalization 4·8, Gemm 32·10 + 10, and the constant 2.
    assert data["parameters"] == 443
    assert data["inputs"] == [{"name": "image", "dtype": "float32", "shape": ("batch", 8, 8, 1)}]
