"""Session creation from a bundle's .ort file against that of the .onnx file of the same stage.

    python -m tests.benchmarks.session_creation [MODEL …]

Both from bytes in memory, onnxruntime's CPU provider, one thread, the session options of the target's manifest; a new session each time,
made in turn A B A B …, after a warm-up. The ratio is that of the medians of CPU time. The file's SHA-256, which every loader checks
before, is a column of its own: it is the same work for either file. Exit 1: the bar is missed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.latency import MODELS, child, machine
from tests.zoo.build import model_path, ready
from tests.zoo.convert import intake
from tests.zoo.entries import read_entries

#: Targets whose bundles hold .ort files: of the Fixed style, and of the Runtime style.
TARGETS = ("ios-cpu", "android")
BAR = 0.5
_WARM_UPS, _ROUNDS, _LONGEST_S, _FEWEST = 2, 40, 8.0, 7


def main() -> None:
    """Make, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names from tests/zoo/models.yaml")
    names = parser.parse_args().models or list(MODELS)
    ready([e for e in read_entries() if e.name in names])
    print(machine(), flush=True)
    heads = "".join(f"{t + ' .ort ms':>17}{'ratio':>7}" for t in TARGETS)
    print(f"{'model':30}{'.onnx ms':>10}{heads}{'SHA-256 ms':>12}", flush=True)
    ratios: dict[str, list[float]] = {target: [] for target in TARGETS}
    for name in names:
        row = child(__spec__.name, "measured", {"name": name})
        cells = ""
        for target in TARGETS:
            ratios[target].append(row[target] / row[f"{target} onnx"])
            cells += f"{row[target]:17.2f}{ratios[target][-1]:7.2f}"
        print(f"{name:30}{row[f'{TARGETS[0]} onnx']:10.2f}{cells}{row['sha256']:12.2f}", flush=True)
    missed = 0
    for target, found in ratios.items():
        mean = math.exp(statistics.fmean(map(math.log, found)))
        above = sum(r > BAR for r in found)
        missed += above
        print(f"{target}: geometric mean {mean:.2f}, worst {max(found):.2f}, {above} above {BAR}")
    sys.exit(1 if missed else 0)


def measured(request: dict[str, Any]) -> dict[str, float]:
    """Milliseconds by what was made."""
    import hashlib

    (entry,) = [e for e in read_entries() if e.name == request["name"]]
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for target, (onnx_path, ort_path, config) in _files(entry, Path(scratch)).items():
            onnx_bytes, ort_bytes = onnx_path.read_bytes(), ort_path.read_bytes()
            times = _in_turn(
                {
                    f"{target} onnx": lambda data=onnx_bytes, config=config: _open(data, config),
                    target: lambda data=ort_bytes, config=config: _open(data, config),
                    "sha256": lambda data=ort_bytes: hashlib.sha256(data).digest(),
                }
            )
            found |= {kind: statistics.median(t) for kind, t in times.items()}
    return found


def _files(entry: Any, folder: Path) -> dict[str, tuple[Path, Path, dict[str, str]]]:
    """By target: the last ONNX graph of a float build, the .ort file made of it, the manifest's session entries."""
    from edgepack.artifact import Format
    from edgepack.intake.request import with_shapes
    from edgepack.intake.source import open_source
    from edgepack.passes.plan import ShapeRequest, make_plans
    from edgepack.passes.step import StepContext
    from edgepack.targets import load_target

    asked = with_shapes(intake(entry.options), entry.shapes)
    source = open_source(model_path(entry), folder, asked)
    try:
        converted, _ = source.convert(folder / "model.onnx")
    finally:
        source.close()
    files = {}
    for target in TARGETS:
        profile = load_target(target)
        shapes = ShapeRequest.of(entry.shapes, None)
        (plan,) = make_plans(
            profile, requested="fp32", calibrated=False, shapes=shapes, atol=None, rtol=None
        )
        model, last = converted, converted
        for i, step in enumerate(plan.steps):
            place = folder / f"{target}-{i}"
            place.mkdir()
            model = step.run(model, StepContext(folder=place, name="model", calibrator=None)).model
            last = model if model.format is Format.ONNX else last
        files[target] = (last.path, model.path, dict(profile.runtime.session.config))
    return files


def _open(data: bytes, config: dict[str, str]) -> object:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    for key, value in config.items():
        options.add_session_config_entry(key, value)
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _in_turn(makers: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {kind: [] for kind in makers}
    start = time.perf_counter()
    for done in range(-_WARM_UPS, _ROUNDS):
        if done >= _FEWEST and time.perf_counter() - start > _LONGEST_S:
            break
        for kind, make in makers.items():
            begun = time.process_time()
            made = make()
            taken = (time.process_time() - begun) * 1e3
            del made
            if done >= 0:
                times[kind].append(taken)
    return times


if __name__ == "__main__":
    main()
