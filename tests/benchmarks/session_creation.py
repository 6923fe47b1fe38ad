"""Session creation from an Android bundle's .ort file against that of the .onnx file of the same stage.

    python -m tests.benchmarks.session_creation [MODEL …]

Both are bundles, opened by the shipped Kotlin loader on a JVM (onnxruntime 1.29, CPU provider, one thread): hashes are checked when a bundle
is opened, which is not timed. 40 sessions of each in turn, the first 10 as warm-up; the ratio is that of the medians. Exit 1: the bar is missed.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import tempfile
from pathlib import Path

import edgepack
from edgepack.targets import load_target
from tests.benchmarks.latency import MODELS, machine
from tests.device.kotlin.jvm import Jvm
from tests.zoo.build import model_path, ready
from tests.zoo.convert import intake
from tests.zoo.entries import Entry, read_entries

BAR = 0.5
#: The android target's float bundle without its last step.
_TWIN = """
extends: android
title: the same graph as .onnx
precisions:
  fp32:
    steps:
      - tune: {{rewrites: [{rewrites}]}}
"""


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help="names from tests/zoo/models.yaml")
    names = parser.parse_args().models or list(MODELS)
    entries = [e for e in read_entries() if e.name in names]
    ready(entries)
    print(machine(), flush=True)
    print(f"{'model':30}{'.onnx ms':>10}{'.ort ms':>10}{'ratio':>7}", flush=True)
    ratios = []
    with Jvm() as jvm:
        for entry in entries:
            with tempfile.TemporaryDirectory() as folder:
                ort, onnx = _bundles(entry, Path(folder))
                cost = jvm.ask("creation", bundle=ort, other=onnx)
            ratios.append(cost["bundle_us"] / cost["other_us"])
            both = (cost[name] / 1e3 for name in ("other_us", "bundle_us"))
            cells = "".join(f"{ms:10.2f}" for ms in both)
            print(f"{entry.name:30}{cells}{ratios[-1]:7.2f}", flush=True)
    mean = math.exp(statistics.fmean(map(math.log, ratios)))
    above = sum(r > BAR for r in ratios)
    print(
        f"geometric mean {mean:.2f}, worst {max(ratios):.2f}, {above} of {len(ratios)} above {BAR}"
    )
    sys.exit(1 if above else 0)


def _bundles(entry: Entry, folder: Path) -> tuple[Path, Path]:
    """Of one build: the bundle with the .ort file, and its twin with the graph that was made of."""
    (tune,) = (s for s in load_target("android").precisions["fp32"].steps if s.name == "tune")
    twin = folder / "twin.yaml"
    twin.write_text(_TWIN.format(rewrites=", ".join(tune.options["rewrites"])))
    ort, onnx = edgepack.build(
        model_path(entry),
        targets=["android", str(twin)],
        precision="fp32",
        output_dir=folder,
        shapes=entry.shapes or None,
        atol=entry.atol,
        intake=intake(entry.options),
    )
    return ort.bundle, onnx.bundle


if __name__ == "__main__":
    main()
