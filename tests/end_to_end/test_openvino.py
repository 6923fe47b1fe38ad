"""A bundle that OpenVINO runs: proved on it, pinned in manifest and SBOM, and right on the CPU where it is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import edgepack
from edgepack.errors import EnvironmentMissing, UsageError
from edgepack.pipeline import BuildResult
from edgepack.prove import apart
from edgepack.prove.engine import answers
from edgepack.resources import python_loader
from edgepack.runtimes import Provider
from tests.models import conv_model, images, write

OPENVINO, CPU = "OpenVINOExecutionProvider", "CPUExecutionProvider"


def build(folder: Path, precision: str, **wishes: object) -> BuildResult:
    source = write(conv_model(), folder / "net.onnx")
    (result,) = edgepack.build(
        source,
        targets=["linux-x64"],
        output_dir=folder / "out",
        precision=precision,
        **wishes,  # type: ignore[arg-type]
    )
    return result


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.setattr(apart, "_why_not_here", apart._why_not_here.__wrapped__)


def self_tested(bundle: Path, providers: list[str] | None = None) -> dict[str, object]:
    with python_loader().EdgepackBundle.open(bundle).session(providers) as session:
        assert session.self_test()["passed"]
        return dict(session.report())


@pytest.mark.parametrize("way", ["fp32@openvino", "int8@openvino", "bf16"])
def test_each_way_is_proved_on_openvino_and_right_on_the_cpu_besides(
    tmp_path: Path, way: str
) -> None:
    result = build(tmp_path, way, calibration=images(40), max_drop=10.0)
    manifest = edgepack.load_manifest(result.bundle)
    assert manifest.model.precision == way.partition("@")[0]
    assert [p.name for p in manifest.runtime.providers] == [OPENVINO, CPU]
    assert self_tested(result.bundle)["provider"] == OPENVINO
    assert self_tested(result.bundle, [CPU])["provider"] == CPU


def test_shipped_answers_are_openvinos_in_the_arithmetic_it_was_told(tmp_path: Path) -> None:
    result = build(tmp_path, "bf16", calibration=images(40), max_drop=10.0)
    manifest = edgepack.load_manifest(result.bundle)
    case, provider = manifest.golden[0], manifest.runtime.providers[0]
    assert provider.options["INFERENCE_PRECISION_HINT"] == "bf16"
    read = {e.origin: np.fromfile(result.bundle / e.path, e.dtype) for e in case.expect}
    feed = {
        g.name: np.fromfile(result.bundle / g.path, g.dtype).reshape(g.shape) for g in case.inputs
    }
    model = result.bundle / manifest.model.path
    (theirs,) = answers(model, [feed], engine=provider)
    assert read["shipped"].tobytes() == theirs["probabilities"].tobytes()
    # Eight bits: not the source's answers, which the same file gives in float32.
    away = np.abs(read["shipped"] - read["source"]).max()
    assert 1e-5 < away < 0.05
    (exact,) = answers(model, [feed])
    assert np.abs(exact["probabilities"].ravel() - read["source"]).max() < 1e-6


def test_the_package_is_pinned_in_manifest_sbom_and_readme(tmp_path: Path) -> None:
    bundle = build(tmp_path, "fp32@openvino").bundle
    first, second = json.loads((bundle / "manifest.json").read_text())["runtime"]["providers"]
    assert (first["package"], first["version"]) == ("openvino", "2026.4.1")
    assert second == {"name": CPU, "options": {}}
    parts = json.loads((bundle / "sbom.cdx.json").read_text())["components"]
    assert "pkg:pypi/openvino@2026.4.1" in {p.get("purl") for p in parts}
    assert "package openvino 2026.4.1" in (bundle / "README.md").read_text()


@pytest.mark.usefixtures("missing")
def test_without_the_package_what_needs_it_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    result = build(tmp_path, "auto", calibration=images(40), max_drop=10.0)
    assert result.precision in ("int8", "fp32")
    assert result.left_out.startswith("left out int8@openvino, fp32@openvino, bf16: ")
    assert result.left_out.count("pip install openvino==2026.4.1") == 1
    tried = edgepack.load_manifest(result.bundle).build.precision.tried
    assert not [a for a in tried if a.precision in ("int8@openvino", "fp32@openvino", "bf16")]
    assert self_tested(result.bundle)["provider"] == CPU


@pytest.mark.usefixtures("missing")
def test_without_the_package_what_was_asked_for_by_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="openvino") as caught:
        build(tmp_path, "bf16", calibration=images(40))
    assert "pip install openvino==2026.4.1" in caught.value.fix


def test_bfloat16_is_not_shipped_unmeasured(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data to measure"):
        build(tmp_path, "bf16")


def test_a_model_that_openvino_refuses_is_named_with_its_words(tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"no model")
    provider = Provider(name=OPENVINO, package="openvino", version="2026.4.1")
    with pytest.raises(edgepack.EdgepackError, match=r"openvino cannot open broken\.onnx"):
        apart.open_apart(path, provider)
