"""A run through the Kotlin loader against the bare OrtSession of ONNX Runtime's Java API, on a model of about a millisecond.

    python tests/benchmarks/kotlin_overhead.py [--rounds N]

Three calls in turn, 3000 times in one JVM, the first 1000 as warm-up; medians, and the ratios of the medians. `fresh`: a new tensor a
call. `kept`: one tensor, refilled, as the bundle's README says. Both sides copy their input in and their output out; one thread each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402
import onnx  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

import edgepack  # noqa: E402
from tests.device.kotlin.jvm import Jvm  # noqa: E402


def model() -> onnx.ModelProto:
    """float32 [1, 48, 48, 3] through three convolutions to [1, 10]."""
    rng = np.random.default_rng(0)
    shapes = {"k0": (32, 3, 3, 3), "k1": (32, 32, 3, 3), "k2": (32, 32, 3, 3), "w": (32, 10)}
    weights = [
        numpy_helper.from_array((rng.normal(size=s) * 0.1).astype(np.float32), n)
        for n, s in shapes.items()
    ]
    nodes = [helper.make_node("Transpose", ["image"], ["x0"], perm=[0, 3, 1, 2])]
    for i in range(3):
        nodes.append(helper.make_node("Conv", [f"x{i}", f"k{i}"], [f"y{i}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"y{i}"], [f"x{i + 1}"]))
    nodes += [
        helper.make_node("GlobalAveragePool", ["x3"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "millisecond",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 48, 48, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    """Print each round and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, Jvm() as jvm:
        path = Path(folder) / "millisecond.onnx"
        onnx.save(model(), path)
        (built,) = edgepack.build(path, targets=["android"], precision="fp32", output_dir=folder)
        (file,) = (built.bundle / "model").iterdir()
        for _ in range(rounds):
            cost = jvm.ask(
                "overhead",
                bundle=built.bundle,
                model=file,
                providers=["CPUExecutionProvider"],
                threads=1,
            )
            assert cost["equal"]
            fresh, kept = (cost[name] / cost["bare_us"] for name in ("fresh_us", "kept_us"))
            print(
                f"bare {cost['bare_us']:.0f} us; loader {cost['fresh_us']:.0f} us ({fresh:.3f} x), "
                f"with one tensor refilled {cost['kept_us']:.0f} us ({kept:.3f} x)"
            )


if __name__ == "__main__":
    main()
