"""edgepack's web bundles against TensorFlow.js and LiteRT.js, side by side in headless Chromium.

    python -m tests.benchmarks.web [MODEL …] [--seconds S] [--json]

All are WebAssembly on one thread, in one page, runs interleaved: onnxruntime-web with edgepack's fp32 bundle and with the one that
`--precision auto` chooses, TensorFlow.js, LiteRT.js. Times include handing the input over and the answer back; each is the first decile
of the rounds: what a run takes while nothing else has the processor. Ratios are of those; below 1 the first is quicker. Every answer is
compared with Keras'. "in Node": the chosen bundle against the fp32 one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.bundle.open import load_manifest
from edgepack.choose.race_web import find_web_engine, race_web
from edgepack.pipeline import BuildResult, build
from edgepack.targets import load_target
from tests.benchmarks.web.browser import compare, page
from tests.conftest import CACHE, ROOT

#: As `models` has them, which needs TensorFlow.
TRAINED = ("fer",)
NAMES = (
    *("small-conv", "mobilenet-v2", "mobilenet-v3-small", "efficientnet-b0"),
    *("transformer", "unet", *TRAINED),
)
FLOAT, CHOSEN, TENSORFLOW, LITERT = "fp32", "chosen", "TensorFlow.js", "LiteRT.js"
#: Of the largest number in Keras' answer: what an engine's may be off.
OFF = {FLOAT: 1e-3, TENSORFLOW: 1e-3, LITERT: 1e-3, CHOSEN: 0.2}


def main() -> None:
    """Print a table, and what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"of {', '.join(NAMES)}; all otherwise"
    )
    parser.add_argument("--seconds", type=float, default=8.0, help="for the rounds of one model")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    fetch = Path(__file__).with_name("fetch.sh")
    subprocess.run(["bash", fetch], check=True, env={**os.environ, "PYTHON": sys.executable})
    os.environ["EDGEPACK_NODE_MODULES"] = str(CACHE / "javascript")
    rows = []
    with tempfile.TemporaryDirectory(prefix="edgepack-web-") as scratch:
        folder = Path(scratch)
        with page(CACHE, folder) as opened:
            for name in arguments.models or NAMES:
                rows.append(measured(name, folder / name, opened, arguments.seconds))
                print(json.dumps(rows[-1]) if arguments.json else line(rows[-1]), flush=True)
    if not arguments.json:
        print(summary(rows))
    if any(row["wrong"] for row in rows):
        sys.exit(1)


def measured(name: str, folder: Path, opened: Any, seconds: float) -> dict[str, Any]:
    """One model's figures; ratios below 1: the first is quicker."""
    folder.mkdir()
    convert = [sys.executable, "-m", "tests.benchmarks.web.convert", name, folder, CACHE]
    done = subprocess.run(convert, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-2000:]}")
    samples = np.load(folder / "samples.npz")
    first = {k: samples[k][:1] for k in samples.files}
    built = {FLOAT: _built(name, folder, "fp32"), CHOSEN: _built(name, folder, "auto")}
    result = compare(opened, _request(folder, built, first, seconds))
    answer = np.load(folder / "answer.npy").reshape(-1)
    times = {k: r["times"] for k, r in result.items() if "times" in r}
    off = {
        k: float(np.abs(np.asarray(r["answer"]) - answer).max() / np.abs(answer).max())
        for k, r in result.items()
        if "answer" in r
    }
    wrong = [f"{k}: {r['error']}" for k, r in result.items() if "error" in r]
    wrong += [f"{k} is off by {d:.1e}" for k, d in off.items() if d > OFF[k]]
    return {
        "model": name,
        "precision": built[CHOSEN].precision,
        "ms": {k: _quick(t) for k, t in times.items()},
        "ratios": {
            f"{a}/{b}": _ratio(times[a], times[b])
            for a in (FLOAT, CHOSEN)
            for b in (TENSORFLOW, LITERT)
            if a in times and b in times
        }
        | {"chosen/fp32": _ratio(times[CHOSEN], times[FLOAT]), "in Node": _in_node(built, first)},
        "bytes": {
            FLOAT: built[FLOAT].size_after,
            CHOSEN: built[CHOSEN].size_after,
            TENSORFLOW: sum(p.stat().st_size for p in (folder / "tfjs").iterdir()),
            LITERT: (folder / "model.tflite").stat().st_size,
        },
        "off": off,
        "wrong": wrong,
    }


def _built(name: str, folder: Path, precision: str) -> BuildResult:
    (result,) = build(
        folder / "model.keras",
        targets=["web"],
        precision=precision,
        calibration=folder / "samples.npz",
        # Random weights answer at random: what they lose says nothing, and looking for what loses less takes hours.
        max_drop=None if name in TRAINED else 100.0,
        output_dir=folder / precision,
    )
    return result


def _model(result: BuildResult) -> Path:
    return next((result.bundle / "model").iterdir())


def _request(
    folder: Path, built: dict[str, BuildResult], feed: dict[str, Any], seconds: float
) -> dict[str, Any]:
    session = load_target("web").runtime.session
    options = {
        "graphOptimizationLevel": session.graph_optimization_level,
        "extra": session.config,
    }
    place = f"/models/{folder.name}"
    entries: list[dict[str, Any]] = [
        {
            "name": name,
            "engine": "onnxruntime",
            "url": f"{place}/{_model(result).relative_to(folder)}",
            "options": options,
        }
        for name, result in built.items()
    ]
    entries.append({"name": TENSORFLOW, "engine": "tensorflow", "url": f"{place}/tfjs/model.json"})
    entries.append({"name": LITERT, "engine": "litert", "url": f"{place}/model.tflite"})
    (x,) = feed.values()
    given = {"data": x.reshape(-1).tolist(), "shape": list(x.shape), "dtype": x.dtype.name}
    return {"entries": entries, "input": given, "budget_ms": seconds * 1000}


def _quick(times: Sequence[float]) -> float:
    return statistics.quantiles(times, n=10, method="inclusive")[0]


def _ratio(a: Sequence[float], b: Sequence[float]) -> float:
    return _quick(a) / _quick(b)


def _in_node(built: dict[str, BuildResult], feed: dict[str, Any]) -> float:
    """The chosen bundle's time by the fp32 one's."""
    runtime = load_target("web").runtime
    models = {name: _wrapped(_model(result)) for name, result in built.items()}
    (x,) = feed.values()
    name = load_manifest(built[FLOAT].bundle).inputs[0].name
    times = race_web(models, {name: x}, runtime, find_web_engine(runtime))
    median, _ = times[CHOSEN].shares_of(times[FLOAT])
    return median


def _wrapped(path: Path) -> ModelFile:
    if path.suffix == ".ort":
        return ModelFile(path=path, format=Format.ORT, inputs=(), outputs=())
    return onnxfile.wrap_file(path)


def line(row: dict[str, Any]) -> str:
    """`name: 3.1 ms …`."""
    ms = ", ".join(f"{k} {t:.2f}" for k, t in row["ms"].items())
    ratios = ", ".join(f"{k} {r:.2f}" for k, r in row["ratios"].items())
    sizes = ", ".join(f"{k} {b / 1e6:.2f}" for k, b in row["bytes"].items())
    off = ", ".join(f"{k} {d:.0e}" for k, d in row["off"].items())
    text = f"{row['model']} (chosen: {row['precision']})\n  ms      {ms}\n  ratios  {ratios}"
    text += f"\n  MB      {sizes}\n  off by  {off}"
    return text + "".join(f"\n  WRONG   {w}" for w in row["wrong"])


def summary(rows: Sequence[dict[str, Any]]) -> str:
    """Geometric means, and where TensorFlow.js is quicker."""
    lines = []
    for key in (f"{a}/{b}" for b in (TENSORFLOW, LITERT) for a in (FLOAT, CHOSEN)):
        found = {r["model"]: r["ratios"][key] for r in rows if key in r["ratios"]}
        if found:
            mean = statistics.geometric_mean(found.values())
            beaten = [m for m, ratio in found.items() if ratio >= 1]
            lost = f"; not quicker on {', '.join(beaten)}" if beaten else "; quicker on every one"
            lines.append(f"{key}: geometric mean {mean:.2f} over {len(found)} models{lost}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
