"""Bundles of the zoo's models for the benchmarks, each built in a process of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import edgepack
from edgepack.intake.source import open_source
from edgepack.targets import TargetProfile, load_target
from tests.benchmarks.rivals import samples
from tests.zoo.build import model_path
from tests.zoo.convert import intake
from tests.zoo.entries import ATOL, Entry, read_entries


def make(request: dict[str, Any]) -> dict[str, Any]:
    """The bundle of the entry `name` for `target`, below `folder`; with `search`, as a build looks for an INT8 that loses less.

    Of random weights the class that comes first says little: for them the bound on every stage (cosine) judges INT8, as it does the
    rival's. Trained models have edgepack's own gate besides.
    """
    (entry,) = [e for e in read_entries() if e.name == request["name"]]
    (result,) = edgepack.build(
        model_path(entry),
        targets=[_profile(entry, request["target"], search=request["search"])],
        output_dir=request["folder"],
        app=entry.name,
        calibration=_calibration(entry),
        max_drop=None if entry.package else 100.0,
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


def _profile(entry: Entry, target: str, *, search: bool) -> TargetProfile:
    """The target; without the search, no other INT8 than the recipe's.

    A model whose own framework is further off than the profile allows gets its own bound.
    """
    profile = load_target(target)
    specs = {}
    for name, spec in profile.precisions.items():
        atol = spec.parity.atol if entry.atol == ATOL else max(entry.atol, spec.parity.atol)
        parity = spec.parity.model_copy(update={"atol": atol})
        variants = spec.variants if search else ()
        specs[name] = spec.model_copy(update={"parity": parity, "variants": variants})
    return profile.model_copy(update={"precisions": specs})
