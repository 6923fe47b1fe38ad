"""What a call through the Python and the C++ loader costs over the bare session, on a model of about 1 ms.

    python -m tests.benchmarks.loader_overhead

Both calls are made in turns in one process, one thread each; medians. Kotlin's is measured in tests/device/kotlin.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from tests.bundle_samples import make_model, write_bundle
from tests.conftest import ROOT
from tests.device.cpp.programs import compiled, library

CALLS = 500


def main() -> None:
    """Print one line a loader."""
    with tempfile.TemporaryDirectory() as folder:
        model, bundle = _model(), Path(folder) / "bench"
        write_bundle(bundle, model, model.SerializeToString(), "onnx")
        for name, (bare, through) in (("Python", _python(bundle)), ("C++", _cpp(bundle))):
            share = through / bare - 1
            print(f"{name}: bare {bare:.0f} µs, through the loader {through:.0f} µs ({share:+.1%})")


def _model() -> onnx.ModelProto:
    """Convolutions over [1, 16, 48, 48]: about 1 ms on one core of a PC."""
    rng = np.random.default_rng(0)
    names = ["x", "a", "b", "y"]
    weights = [rng.normal(size=(16, 16, 3, 3)).astype(np.float32) for _ in names[1:]]
    nodes = [
        helper.make_node("Conv", [names[k], f"w{k}"], [names[k + 1]], pads=[1] * 4)
        for k in range(3)
    ]
    shape = [1, 16, 48, 48]
    return make_model(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(w, f"w{k}") for k, w in enumerate(weights)],
    )


def _python(bundle: Path) -> tuple[float, float]:
    sys.path.insert(0, str(ROOT / "runtime" / "python"))
    from edgepack_loader import EdgepackBundle  # type: ignore[import-not-found]

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    bare = onnxruntime.InferenceSession(bundle / "model" / "bench.onnx", options)
    feeds = {"x": np.zeros([1, 16, 48, 48], np.float32)}
    with EdgepackBundle.open(bundle).session(threads=1) as session:
        times = [
            (
                _microseconds(lambda: bare.run(["y"], feeds)),
                _microseconds(lambda: session.run(feeds)),
            )
            for _ in range(2 * CALLS)
        ]
    plain, through = zip(*times[CALLS:], strict=True)
    return statistics.median(plain), statistics.median(through)


def _microseconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e6


def _cpp(bundle: Path) -> tuple[float, float]:
    program = compiled(Path(__file__).with_suffix(".cpp"), ("-O2",))
    done = subprocess.run(
        [program, bundle, library(), str(CALLS)], capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    return answer["bare_us"], answer["loader_us"]


if __name__ == "__main__":
    main()
