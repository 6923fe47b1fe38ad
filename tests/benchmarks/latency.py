"""Latency on this CPU, one thread: edgepack's choice against LiteRT's quicker one of float and INT8.

    python -m tests.benchmarks.latency                       all of MODELS
    python -m tests.benchmarks.latency mobilenet-v2 birdnet  these alone

A: the bundle that `edgepack build --precision auto` makes for a target of this machine's kind, opened by the loader in it. B: LiteRT
with XNNPACK on the .tflite file that the model came as, or on those that TFLite's converter makes of the same source, in float and in
INT8, calibrated with the same samples. One process a model, runs interleaved A B B A B B …, after a warm-up. The ratio is that of the
medians; quartiles stand beside them. Exit 1: the bar is missed.

Milliseconds are the process's CPU time, all threads: on a quiet machine the same as the wall's, and on a busy one what other
processes take does not count. `--wall` takes the wall clock.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.rivals import litert_files, samples
from tests.zoo.build import model_path, ready
from tests.zoo.entries import Entry, read_entries
from tests.zoo.packages import ROOT

#: Of several families, taken before any of them was measured.
MODELS = (
    *("fer-mini-xception", "mobilenet-v2", "mobilenet-v3-small", "mobilenet-v3-large"),
    *("efficientnet-b0", "efficientnet-v2-b0", "resnet50", "inception-v3", "densenet121"),
    *("nasnet-mobile", "convnext-tiny", "unet", "birdnet", "mediapipe-face-short-range"),
    *("mediapipe-face-landmark", "mediapipe-hand-landmark-full", "mediapipe-iris"),
    *("mediapipe-palm-full", "mediapipe-pose-detection", "mediapipe-pose-landmark-full"),
    "mediapipe-selfie",
)
TARGET = "linux-x64"
#: The bar: the geometric mean of all ratios, and each of them.
MEAN_BAR, EACH_BAR = 0.85, 1.1
_WARM_UPS, _FEWEST, _ROUNDS, _LONGEST_S = 5, 15, 400, 15.0


def main() -> None:
    """Build, race, print."""
    arguments = _arguments()
    by_name = {e.name: e for e in read_entries()}
    entries = [by_name[name] for name in arguments.models or MODELS]
    ready(entries)
    print(_machine(), flush=True)
    print(f"{'model':30} {'edgepack ms':>24} {'LiteRT ms':>28} ratio", flush=True)
    ratios, rows = {}, {}
    for entry in entries:
        try:
            row = _measured(entry, arguments)
        except RuntimeError as error:
            print(f"{entry.name:30} failed: {error}", flush=True)
            continue
        ratios[entry.name], rows[entry.name] = row["ratio"], row
        print(_line(entry.name, row), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": _machine(), "models": rows}, indent=1))
    mean = math.exp(statistics.fmean(map(math.log, ratios.values())))
    worst = max(ratios, key=lambda name: ratios[name])
    above = sum(r > EACH_BAR for r in ratios.values())
    print(f"geometric mean {mean:.2f} over {len(ratios)} models (bar {MEAN_BAR})")
    print(f"worst {ratios[worst]:.2f}, {worst}; {above} above {EACH_BAR}")
    sys.exit(1 if mean > MEAN_BAR or above or len(ratios) < len(entries) else 0)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.latency",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("models", nargs="*", help="names from tests/zoo/models.yaml")
    parser.add_argument("--wall", action="store_true", help="the wall clock instead of CPU time")
    parser.add_argument(
        "--bundles", type=Path, metavar="FOLDER", help="keep bundles, and use those kept"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all figures as data")
    return parser.parse_args()


def _measured(entry: Entry, arguments: argparse.Namespace) -> dict[str, Any]:
    """One model's medians, in a process of its own."""
    rivals = {kind: str(path) for kind, path in litert_files(entry).items()}
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.bundles or Path(scratch)
        bundle = folder / f"{entry.name}-{TARGET}"
        if not bundle.exists():
            build(entry, folder)
        request = {
            "bundle": str(bundle),
            "rivals": rivals,
            "wall": arguments.wall,
            "span": entry.span,
        }
        return child("tests.benchmarks.latency", "_race", request)


def build(entry: Entry, folder: Path, target: str = TARGET) -> Path:
    """The bundle of an entry for a target, in a process of its own."""
    request = {"name": entry.name, "folder": str(folder), "target": target}
    return Path(child("tests.benchmarks.latency", "_build", request)["bundle"])


def child(module: str, function: str, request: dict[str, Any]) -> dict[str, Any]:
    """What a function of a module answers to a request, in a process of its own.

    Raises:
        RuntimeError: it failed; its last words are in the error.
    """
    code = f"import json, sys; from {module} import {function} as f; print(json.dumps(f(json.loads(sys.argv[1]))))"
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(request)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip()[-1000:])
    return json.loads(done.stdout.splitlines()[-1])


def _build(request: dict[str, Any]) -> dict[str, Any]:
    import edgepack
    from edgepack.intake.source import open_source
    from tests.zoo.convert import intake

    (entry,) = [e for e in read_entries() if e.name == request["name"]]
    with tempfile.TemporaryDirectory() as scratch:
        source = open_source(model_path(entry), Path(scratch), intake(entry.options))
        specs = source.inputs
        source.close()
    calibration = {
        s.name: samples(tuple(d for d in s.shape[1:] if isinstance(d, int)), s.dtype, entry.span)
        for s in specs
    }
    (result,) = edgepack.build(
        model_path(entry),
        targets=[request["target"]],
        output_dir=request["folder"],
        app=entry.name,
        calibration=calibration,
        intake=intake(entry.options),
        atol=max(entry.atol, 1e-3),
        rtol=1e-2,
        overwrite=True,
    )
    return {"bundle": str(result.bundle)}


def _race(request: dict[str, Any]) -> dict[str, Any]:
    sys.dont_write_bytecode = True
    sys.path.insert(0, f"{request['bundle']}/loader")
    from ai_edge_litert.interpreter import Interpreter
    from edgepack_loader import EdgepackBundle

    bundle = EdgepackBundle.open(request["bundle"])
    session = bundle.session(threads=1)
    golden = bundle.manifest["golden"][0]["inputs"]
    feed = {g["name"]: bundle.tensor(g) for g in golden}
    runs: dict[str, Callable[[], object]] = {"edgepack": lambda: session.run(feed)}
    for kind, path in request["rivals"].items():
        interpreter = Interpreter(path, num_threads=1)
        interpreter.allocate_tensors()
        runs[kind] = _litert(interpreter, feed)
    clock = time.perf_counter if request["wall"] else time.process_time
    times = _interleaved(runs, clock)
    medians = {kind: statistics.median(t) for kind, t in times.items()}
    best = min(request["rivals"], key=lambda kind: medians[kind])
    return {
        "precision": bundle.manifest["model"]["precision"],
        "litert": best,
        "ratio": medians["edgepack"] / medians[best],
        "ms": {kind: statistics.quantiles(t, n=4) for kind, t in times.items()},
        "runs": len(times["edgepack"]),
    }


def _litert(interpreter: Any, feed: dict[str, np.ndarray]) -> Callable[[], object]:
    """One run: inputs in, outputs out, as the other side has it."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    # TFLite's converter gives inputs names of its own; then their sizes tell which is which.
    given = {}
    for i in inputs:
        same = feed.get(i["name"])
        values = (
            same
            if same is not None
            else next(x for x in feed.values() if x.size == math.prod(i["shape"]))
        )
        given[i["index"]] = values.reshape(i["shape"]).astype(i["dtype"])

    def run() -> object:
        for index, values in given.items():
            interpreter.set_tensor(index, values)
        interpreter.invoke()
        return [interpreter.get_tensor(o["index"]) for o in outputs]

    return run


def _interleaved(
    runs: dict[str, Callable[[], object]], clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Milliseconds of each run of each, taken in turn."""
    for run in runs.values():
        for _ in range(_WARM_UPS):
            run()
    times: dict[str, list[float]] = {kind: [] for kind in runs}
    start = time.perf_counter()
    for done in range(_ROUNDS):
        if done >= _FEWEST and time.perf_counter() - start > _LONGEST_S:
            break
        for kind, run in runs.items():
            begun = clock()
            run()
            times[kind].append((clock() - begun) * 1e3)
    return times


def _line(name: str, row: dict[str, Any]) -> str:
    def said(kind: str) -> str:
        low, median, high = row["ms"][kind]
        return f"{median:7.2f} ({low:.2f}–{high:.2f})"

    ours = f"{row['precision']} {said('edgepack')}"
    return (
        f"{name:30} {ours:>24} {row['litert'] + ' ' + said(row['litert']):>28} {row['ratio']:5.2f}"
    )


def _machine() -> str:
    """The CPU's name, and whether it has what decides over INT8."""
    text = (
        Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    )
    fields = dict(
        (part.strip() for part in line.split(":", 1)) for line in text.splitlines() if ":" in line
    )
    flags = fields.get("flags", "").split()
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8")
    has = [f for f in known if f in flags]
    load = os.getloadavg()[0]
    model = f"{fields.get('model name', 'unknown CPU')} (family {fields.get('cpu family')}, model {fields.get('model')})"
    return f"{model}; {', '.join(has) or 'no known extensions'}; {os.cpu_count()} cores, load {load:.1f}"


if __name__ == "__main__":
    main()
