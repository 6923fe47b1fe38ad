"""What is in a model or a bundle, without running it."""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from edgepack import onnxfile
from edgepack.artifact import tree_sha256, tree_size
from edgepack.bundle.manifest import MANIFEST
from edgepack.bundle.open import load_manifest
from edgepack.errors import ModelError
from edgepack.intake.detect import detect_format
from edgepack.intake.request import IntakeRequest
from edgepack.intake.source import open_source
from edgepack.trust.signature import read


def inspect(path: str | Path, *, intake: IntakeRequest | None = None) -> dict[str, Any]:
    """Inputs, outputs, operators, sizes, and for a bundle its precision and steps, as plain data.

    A Keras model or SavedModel is opened and converted, so that its operators can be counted.

    Raises:
        ModelError: it is no model. BundleError: its manifest is not valid.
    """
    place = Path(path)
    if (place / MANIFEST).is_file():
        return _bundle(place)
    if place.is_dir() and not (place / "saved_model.pb").is_file():
        raise ModelError(
            f"{place} is neither a bundle (no {MANIFEST}) nor a SavedModel (no saved_model.pb)",
            "give a bundle's folder, a SavedModel folder, or a model file",
        )
    return _model(place, intake)


def _bundle(place: Path) -> dict[str, Any]:
    manifest = load_manifest(place)
    data = manifest.model_dump(mode="json", by_alias=True)
    sizes: Counter[str] = Counter()
    for file in manifest.files:
        sizes[file.role] += file.size
    return {
        "kind": "bundle",
        "release": data["release"],
        "target": data["target"],
        "model": data["model"],
        "inputs": data["inputs"],
        "outputs": data["outputs"],
        "runtime": data["runtime"],
        "precision": data["build"]["precision"],
        "source": data["build"]["source"],
        "steps": data["build"]["steps"],
        "sizes": {"total": sum(sizes.values()), **sizes},
        "tools": data["build"]["tools"],
        "signature": read(place).as_json(),
    }


def _model(place: Path, intake: IntakeRequest | None) -> dict[str, Any]:
    form = detect_format(place)
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        source = open_source(place, Path(scratch), intake)
        try:
            converted, _ = source.convert(Path(scratch) / "model.onnx")
            proto = onnxfile.load(converted)
            framework, beside = source.framework, source.beside
        finally:
            source.close()
    operators = Counter(f"{n.domain}.{n.op_type}".lstrip(".") for n in proto.graph.node)
    return {
        "kind": "model",
        "format": form,
        "framework": framework,
        "size": tree_size(place, beside),
        "sha256": tree_sha256(place, beside),
        "inputs": [vars(s) for s in converted.inputs],
        "outputs": [vars(s) for s in converted.outputs],
        "opset": converted.opset,
        "parameters": sum(math.prod(i.dims) for i in proto.graph.initializer),
        "operators": dict(operators.most_common()),
    }
