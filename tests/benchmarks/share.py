"""How much of a bundle's arithmetic is in 8-bit integers, read from the file that is shipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import edgepack
from edgepack.artifact import Format, ModelFile
from edgepack.legality.graph import GraphView
from edgepack.legality.macs import int8_mac_share
from edgepack.targets import TargetProfile


def mac_share(bundle: Path, profile: TargetProfile) -> float:
    """The share of multiply-accumulates in 8-bit integers of the file that is shipped, 0–1."""
    manifest = edgepack.load_manifest(bundle)
    form = Format.ORT if manifest.model.format == "ort" else Format.ONNX
    path = bundle / manifest.model.path
    graph = GraphView.of(ModelFile(path=path, format=form, inputs=(), outputs=()))
    return int8_mac_share(graph, float_outputs=tuple(_float_outputs(profile)))


def _float_outputs(profile: TargetProfile) -> Iterator[str]:
    """Operators whose outputs the profile says need no QuantizeLinear."""
    rule = profile.legality.get("int8_share") or {}
    yield from rule.get("float_outputs", ("MatMul", "Gemm"))
