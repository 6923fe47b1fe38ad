"""Take ONNX models of 1 and 2.5 GB and a Keras model of 2.2 GB through edgepack: seconds, peak memory and how it ended, a line each.

    python -m tests.scale                 # all of it: about 45 minutes, 20 GB of disk below --folder, 14 GB of memory
    python -m tests.scale --only convert
    python -m tests.scale --only keras    # four minutes, 8 GB of memory

Not part of the test run. What it shows at full size, tests/passes/test_apart.py and others hold at a few kilobytes.
Peak memory: the largest sum of VmRSS over edgepack's process and all it started, polled every 20 ms. Mapped files count in it, and
so does each copy that a step makes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile

#: Features of every layer: 5120² float32 numbers are 105 MB.
WIDTH = 5120
#: Layers of a model of about 1 GB, of one beyond protobuf's 2 GiB, and of the Keras model just beyond them.
SMALL_LAYERS, LARGE_LAYERS, KERAS_LAYERS = 10, 24, 21


@dataclass(frozen=True, kw_only=True)
class Run:
    """How one command ended."""

    seconds: float
    peak_bytes: int
    returncode: int
    last_line: str


def write_model(path: Path, layers: int, width: int = WIDTH) -> ModelFile:
    """A chain of MatMul and Relu: float32 `x` [batch, width] to `y`; weights come and go one at a time."""
    nodes, name = [], "x"
    for i in range(layers):
        nodes.append(helper.make_node("MatMul", [name, f"w{i:02d}"], [f"m{i}"], f"matmul{i}"))
        name = "y" if i == layers - 1 else f"r{i}"
        nodes.append(helper.make_node("Relu", [f"m{i}"], [name], f"relu{i}"))
    edges = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", width])] for n in ("x", "y")
    ]
    graph = helper.make_graph(nodes, "chain", *edges)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    return onnxfile.save(model, path, arrays=_weights(layers, width))


def _weights(layers: int, width: int) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Uniform and centred, of the variance that keeps a Relu network's answers in range."""
    rng = np.random.default_rng(0)
    for i in range(layers):
        x = rng.random((width, width), np.float32)
        x -= np.float32(0.5)
        x *= np.float32((24 / width) ** 0.5)
        yield f"w{i:02d}", x


def measured(argv: list[str]) -> Run:
    """Run a command to its end, watching its memory."""
    start = time.monotonic()
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        peak = 0
        while child.poll() is None:
            peak = max(peak, _tree_rss_bytes(child.pid))
            time.sleep(0.02)
        assert child.stdout is not None
        lines = [line.strip() for line in child.stdout.read().splitlines() if line.strip()]
    seconds = time.monotonic() - start
    said = next((line for line in lines if line.startswith("error")), lines[-1] if lines else "")
    return Run(seconds=seconds, peak_bytes=peak, returncode=child.returncode, last_line=said)


def _tree_rss_bytes(root: int) -> int:
    """VmRSS of a process and of all below it."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        folder = Path("/proc") / str(pid)
        try:
            status = (folder / "status").read_text()
            for task in (folder / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except (OSError, ValueError):
            continue
        rss = next((line for line in status.splitlines() if line.startswith("VmRSS:")), "VmRSS: 0")
        total += int(rss.split()[1]) * 1024
    return total


def _cases(folder: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """(what it shows, its source, command), in the order they build on each other."""
    edgepack = [sys.executable, "-m", "edgepack"]
    small, large, keras = (folder / n for n in ("small.onnx", "large.onnx", "large.keras"))

    def build(model: Path, target: str, precision: str) -> list[str]:
        options = ["-t", target, "--precision", precision, "--overwrite"]
        calibrated = ["--calibration", str(folder / "samples.npz")] if precision == "int8" else []
        dist = ["-o", str(folder / "dist")]
        return [*edgepack, "build", str(model), *options, *dist, *calibrated]

    def convert(model: Path, *options: str) -> list[str]:
        out = str(folder / "out" / "model.onnx")
        return [*edgepack, "convert", str(model), "-o", out, "--overwrite", *options]

    for label, model in (("1 GB", small), ("2.5 GB", large)):
        yield f"convert {label}", model, convert(model)
        yield f"convert --batch 1 {label}", model, convert(model, "--batch", "1")
    yield "inspect 2.5 GB", large, [*edgepack, "inspect", str(large)]
    for target, precision in (
        *(("jetson-orin", p) for p in ("fp32", "fp16", "int8")),
        *(("android", p) for p in ("fp16", "int8")),
        *(("web", p) for p in ("fp16", "int8")),
    ):
        yield f"build {target} {precision} 2.5 GB", large, build(large, target, precision)
        bundle = str(folder / "dist" / f"large-{target}")
        yield f"verify {target} {precision} 2.5 GB", large, [*edgepack, "verify", bundle]
    for target in ("android", "web-webgpu"):
        yield f"refuse {target} fp32 2.5 GB", large, build(large, target, "fp32")
    yield "convert keras 2.2 GB", keras, convert(keras)
    yield "build jetson-orin fp32 keras 2.2 GB", keras, build(keras, "jetson-orin", "fp32")


def _write_source(path: Path) -> None:
    """Make one of the models that `_cases` names."""
    if path.suffix == ".keras":  # In another process, which gives its memory back.
        size = [str(KERAS_LAYERS), str(WIDTH)]
        subprocess.run([sys.executable, "-m", "tests.scale.dense", str(path), *size], check=True)
        return
    write_model(path, SMALL_LAYERS if path.stem == "small" else LARGE_LAYERS)


def main() -> None:
    """Run the cases and print a row for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("scale"), help="made, and removed at the end"
    )
    parser.add_argument("--only", default="", help="run the cases whose names hold this")
    options = parser.parse_args()
    options.folder.mkdir(parents=True)
    try:
        samples = np.random.default_rng(1).random((8, WIDTH), np.float32)
        np.savez(options.folder / "samples.npz", x=samples)
        print("| case | seconds | peak memory | × source | ended |\n|---|---|---|---|---|")
        for name, source, argv in _cases(options.folder):
            if options.only not in name:
                continue
            if not source.exists():
                _write_source(source)
            size = sum(f.stat().st_size for f in source.parent.glob(f"{source.name}*"))
            run = measured(argv)
            row = f"{run.seconds:.0f} | {run.peak_bytes / 1e9:.2f} GB | {run.peak_bytes / size:.1f}"
            print(f"| {name} | {row} | {run.returncode}: {run.last_line[:160]} |", flush=True)
    finally:
        shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
