"""`sbom.cdx.json`: what a bundle is made of and with, as CycloneDX 1.6 has it.

It has no time and no random number: the serial number is derived from what it says, so that the same bundle has the same one.

Source: cyclonedx.org/docs/1.6/json; package-url.org for `purl`.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

import rfc8785

from edgepack.bundle.loaders import load_spec
from edgepack.bundle.manifest import File, Model, Release, RuntimeSpec, SourceModel, Target
from edgepack.names import bundle_name

SBOM = "sbom.cdx.json"
#: Of this kind of file, so that no other program derives the same serial numbers.
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "urn:edgepack:sbom")


def sbom(
    release: Release,
    target: Target,
    model: Model,
    runtime: RuntimeSpec,
    source: SourceModel,
    files: Sequence[File],
    tools: Mapping[str, str],
) -> bytes:
    """The SBOM of a bundle, JSON.

    Args:
        files: the bundle's, the model's among them.
        tools: name → version of the Python packages that made it.
    """
    programs = [*_programs(runtime, files, tools["edgepack"]), *_providers(runtime)]
    data: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [_tool(name, tools[name]) for name in sorted(tools)]},
            "component": {
                "type": "application",
                "bom-ref": "bundle",
                "name": bundle_name(release.app, target.name),
                "version": release.version,
                "properties": _properties({"target": target.name, "release_seq": str(release.seq)}),
            },
        },
        "components": [
            _model(release, model, source, files),
            _runtime(runtime),
            *programs,
        ],
        "dependencies": [
            {"ref": "bundle", "dependsOn": ["model", "runtime", *(p["bom-ref"] for p in programs)]},
            {"ref": "model", "dependsOn": ["runtime"]},
            {"ref": "runtime", "dependsOn": []},
            *({"ref": p["bom-ref"], "dependsOn": []} for p in programs),
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, bytes(rfc8785.dumps(data)).decode())
    data["serialNumber"] = serial.urn
    return json.dumps(data, indent=2, sort_keys=True).encode() + b"\n"


def _model(
    release: Release, model: Model, source: SourceModel, files: Sequence[File]
) -> dict[str, Any]:
    parts = [f for f in files if f.role == "model"]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": release.app,
        "version": release.version,
        "hashes": _hashes(next(f.sha256 for f in parts if f.path == model.path)),
        "properties": _properties(
            {
                "path": model.path,
                "format": model.format,
                "precision": model.precision,
                "opset": str(model.opset),
                "size": str(sum(f.size for f in parts)),
                **{f"sha256:{f.path}": f.sha256 for f in parts if f.path != model.path},
            }
        ),
        "pedigree": {
            "ancestors": [
                {
                    "type": "machine-learning-model",
                    "bom-ref": "source",
                    "name": source.name,
                    # Of a folder, and of a file with others beside it, the digest over all of them (see artifact.tree_sha256).
                    "hashes": _hashes(source.sha256),
                    "properties": _properties(
                        {"format": source.format, "framework": source.framework}
                    ),
                }
            ]
        },
    }


def _runtime(runtime: RuntimeSpec) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "library",
        "bom-ref": "runtime",
        "name": runtime.package,
        "version": runtime.version,
    }
    purl = load_spec(runtime.language).purl
    if purl:
        package = runtime.package.replace(":", "/")
        component["purl"] = Template(purl).substitute(package=package, version=runtime.version)
    return component


def _providers(runtime: RuntimeSpec) -> list[dict[str, Any]]:
    """The runtimes of providers that do not come with ONNX Runtime."""
    purl = load_spec(runtime.language).purl
    return [
        {
            "type": "library",
            "bom-ref": f"provider:{p.package}",
            "name": p.package,
            "version": p.version,
            "purl": Template(purl).substitute(package=p.package, version=p.version),
        }
        for p in runtime.providers
        if p.package
    ]


def _programs(runtime: RuntimeSpec, files: Sequence[File], version: str) -> list[dict[str, Any]]:
    """What else runs on the device: edgepack's own programs, which need nothing that is not part of them."""
    places = load_spec(runtime.language).applications
    return [
        {
            "type": "application",
            "bom-ref": f"program:{file.path}",
            "name": file.path,
            "version": version,
            "hashes": _hashes(file.sha256),
        }
        for file in files
        if file.path in places
    ]


def _tool(name: str, version: str) -> dict[str, Any]:
    return {
        "type": "library",
        "bom-ref": f"tool:{name}",
        "name": name,
        "version": version,
        "purl": f"pkg:pypi/{name}@{version}",
    }


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"name": f"edgepack:{name}", "value": value} for name, value in values.items()]
