"""`build.log`: what was done and said, line by line. It has no times and no paths: the same build gives the same log."""

from __future__ import annotations

import json
from collections.abc import Sequence

from edgepack.bundle.manifest import Release, SourceModel
from edgepack.bundle.write import tool_versions
from edgepack.passes.plan import Plan
from edgepack.stages import Stage


def build_log(
    release: Release,
    plan: Plan,
    source: SourceModel,
    origin: str,
    converter: Sequence[str],
    stages: Sequence[Stage],
) -> str:
    """The log of one target's build."""
    lines = [
        f"edgepack build of {release.app} {release.version} (release {release.seq}) for {plan.profile.name}",
        "tools: " + ", ".join(f"{k} {v}" for k, v in tool_versions().items()),
        f"source: {source.name}, {source.format}, {source.size} bytes, sha256 {source.sha256}, answered by {source.framework}",
        f"golden inputs: {origin}",
        f"precision: {plan.precision} (asked for {plan.requested}): {plan.reason}",
        *(f"converter: {line}" for line in converter),
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
