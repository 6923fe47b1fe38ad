"""`sbom.cdx.json`, held against CycloneDX' own library."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

import edgepack
from edgepack.bundle.sbom import SBOM

AGENT = "edgepack-agent.pyz"


def sbom(bundle: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((bundle / SBOM).read_bytes())
    return data


@pytest.mark.parametrize("target", ["jetson-orin", "android", "web"])
def test_it_is_valid_cyclonedx(built: Path, target: str) -> None:
    text = (built / f"tiny-{target}" / SBOM).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bom = Bom.from_json(json.loads(text))  # type: ignore[attr-defined]
    assert bom.validate()
    assert {c.name for c in bom.components} >= {"tiny"}


def test_the_validator_can_refuse() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str('{"bomFormat": "x"}') is not None


def test_it_names_model_source_runtime_and_every_tool(built: Path) -> None:
    bundle = built / "tiny-jetson-orin"
    manifest, data = edgepack.load_manifest(bundle), sbom(bundle)
    model, runtime, agent = data["components"]
    assert (model["type"], model["name"], model["version"]) == (
        "machine-learning-model",
        "tiny",
        "1.2.3",
    )
    files = {f.path: f.sha256 for f in manifest.files}
    assert model["hashes"] == [{"alg": "SHA-256", "content": files["model/tiny.onnx"]}]
    assert {p["name"]: p["value"] for p in model["properties"]}["edgepack:precision"] == "int8"
    (source,) = model["pedigree"]["ancestors"]
    assert source["hashes"][0]["content"] == manifest.build.source.sha256
    assert runtime["purl"] == f"pkg:pypi/{runtime['name']}@{runtime['version']}"
    assert (agent["name"], agent["hashes"][0]["content"]) == (AGENT, files[AGENT])
    tools = {t["name"]: t["version"] for t in data["metadata"]["tools"]["components"]}
    assert tools == manifest.build.tools
    assert tools["onnxruntime"] == version("onnxruntime")
    assert SBOM in files


@pytest.mark.parametrize(
    ("target", "purl"),
    [
        ("android", "pkg:maven/com.microsoft.onnxruntime/onnxruntime-android@"),
        ("web", "pkg:npm/onnxruntime-web@"),
    ],
)
def test_the_runtime_is_named_as_its_registry_has_it(built: Path, target: str, purl: str) -> None:
    assert sbom(built / f"tiny-{target}")["components"][1]["purl"].startswith(purl)


def test_its_serial_number_is_its_content(built: Path) -> None:
    numbers = {sbom(built / f"tiny-{t}")["serialNumber"] for t in ("jetson-orin", "android", "web")}
    assert len(numbers) == 3
    assert all(n.startswith("urn:uuid:") for n in numbers)
    assert "timestamp" not in sbom(built / "tiny-web")["metadata"]
