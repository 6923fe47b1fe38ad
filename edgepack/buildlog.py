"""`build.log`: what was done and said, line by line. It has no times and no paths: the same build gives the same log."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgepack.bundle.manifest import ChosenPrecision, Release, SourceModel
from edgepack.bundle.write import tool_versions
from edgepack.stages import Stage


def build_log(
    release: Release,
    target: str,
    precision: ChosenPrecision,
    source: SourceModel,
    origin: str,
    converter: Sequence[str],
    warnings: Sequence[str],
    stages: Sequence[Stage],
) -> str:
    """The log of one target's build."""
    lines = [
        f"edgepack build of {release.app} {release.version} (release {release.seq}) for {target}",
        "tools: " + ", ".join(f"{k} {v}" for k, v in tool_versions().items()),
        f"source: {source.name}, {source.format}, {source.size} bytes, sha256 {source.sha256}, answered by {source.framework}",
        f"golden inputs: {origin}",
        f"precision: {precision.chosen} (asked for {precision.requested}): {precision.because}",
        *_measured(precision),
        *(f"converter: {line}" for line in converter),
        *(f"legality: {line}" for line in warnings),
    ]
    for stage in stages:
        record = stage.record
        lines.append(
            f"stage {stage.name}: {'changed' if record.changed else 'left as it was'}, {record.size} bytes, sha256 {record.sha256}"
        )
        lines.append(f"  options {json.dumps(record.options, sort_keys=True)}")
        lines.append(f"  facts {json.dumps(record.facts, sort_keys=True)}")
        lines.extend(
            f"  {p.output}: max |a-b| {p.max_abs:.6g} (allowed {p.allowed_abs:.6g} + {p.rtol:.6g}*|b|), "
            f"mse {p.mse:.6g}, cosine {p.cosine:.8f}"
            for p in stage.parity
        )
    return "\n".join(lines) + "\n"


def _measured(precision: ChosenPrecision) -> list[str]:
    gate = precision.gate
    lines = []
    if gate is not None:
        lines.append(f"accuracy: {gate.said}")
    for attempt in precision.tried:
        options = json.dumps(attempt.options, sort_keys=True)
        outcome = attempt.failure or f"drop {attempt.drop}, {attempt.size} bytes"
        verdict = "holds" if attempt.holds else "does not hold"
        mark = ", shipped" if attempt.shipped else ""
        lines.append(f"tried {attempt.precision} {options}: {outcome}: {verdict}{mark}")
    return lines
