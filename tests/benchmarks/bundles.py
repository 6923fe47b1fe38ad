"""Bundles of the zoo's models for the benchmarks, each built in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import edgepack
from edgepack.choose.gate import MAX_DISAGREEMENT
from edgepack.intake.source import open_source
from edgepack.prove.accuracy import agreement
from edgepack.targets import TargetProfile, load_target
from tests.benchmarks.rivals import LiteRt, litert_files, samples
from tests.zoo.build import model_path
from tests.zoo.convert import intake
from tests.zoo.entries import ATOL, Entry, read_entries


def make(request: dict[str, Any]) -> dict[str, Any]:
    """The bundle of the entry `name` for `target`, below `folder`.

    INT8 is admitted where it agrees with the float model as well as LiteRT's does, or within edgepack's own limit.
    """
    (entry,) = [e for e in read_entries() if e.name == request["name"]]
    data = _calibration(entry)
    (result,) = edgepack.build(
        model_path(entry),
        targets=[_profile(entry, request["target"])],
        output_dir=request["folder"],
        app=entry.name,
        calibration=data,
        max_drop=max(MAX_DISAGREEMENT, _rivals_drop(entry, data)),
        intake=intake(entry.options),
    )
    return {"bundle": str(result.bundle)}


def _calibration(entry: Entry) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(model_path(entry), Path(scratch), intake(entry.options))
        try:
            specs = source.inputs
        finally:
            source.close()
    shapes = {s.name: tuple(d for d in s.shape[1:] if isinstance(d, int)) for s in specs}
    return {s.name: samples(shapes[s.name], s.dtype, entry.span) for s in specs}


def _rivals_drop(entry: Entry, data: Mapping[str, np.ndarray]) -> float:
    """Points of agreement that LiteRT's INT8 loses on the calibration data."""
    files = litert_files(entry)
    if "int8" not in files:
        return 0.0
    rivals = [LiteRt(files[kind]) for kind in ("int8", "float")]
    count = len(next(iter(data.values())))
    feeds = [{name: x[i : i + 1] for name, x in data.items()} for i in range(count)]
    return 100.0 - agreement(tuple(r.run(r.given(feed)) for r in rivals) for feed in feeds)


def _profile(entry: Entry, target: str) -> TargetProfile:
    """The target, without the search for an INT8 that loses less, which takes minutes a model and makes none quicker.

    A model whose own framework is further off than the profile allows gets its own bound.
    """
    profile = load_target(target)
    specs = {}
    for name, spec in profile.precisions.items():
        atol = spec.parity.atol if entry.atol == ATOL else max(entry.atol, spec.parity.atol)
        parity = spec.parity.model_copy(update={"atol": atol})
        specs[name] = spec.model_copy(update={"parity": parity, "variants": ()})
    return profile.model_copy(update={"precisions": specs})
