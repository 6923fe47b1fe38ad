"""A call through the Swift loader against one of the bare session.

    python tests/benchmarks/swift_overhead.py [--seconds S]

Both in one process, in turn, each first every other time, on one thread of the same ONNX Runtime for Linux; the bare session's
inputs are made once and its output is copied out, the loader checks names, dtypes and shapes, makes the inputs anew and copies the
outputs. The ratio is the median of the pairs. Models: convolutions on float32 [1, H, H, 3] that take about a tenth of a
millisecond, one, and several. The loader is compiled with -O beside its rival, as a release build of an app does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bundle_samples import seal, write_samples
from tests.device.swift.linux import HERE, LOADER, SWIFT, chroot, inside

FEATURES = 16


def main() -> None:
    """Print a line a model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="for each model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        program = compiled(Path(scratch))
        for side, layers in ((16, 3), (48, 3), (112, 3)):
            bundle = bundle_of(convolutions(side, layers), side, Path(scratch) / str(side))
            done = chroot([inside(program), inside(bundle), str(arguments.seconds)])
            assert done.returncode == 0, done.stderr
            figures = json.loads(done.stdout)
            print(
                f"{side:4} × {side:3} × 3: loader {figures['loader_s'] * 1e3:.3f} ms, bare {figures['bare_s'] * 1e3:.3f} ms, "
                f"median ratio of {figures['pairs']:.0f} pairs {figures['ratio']:.3f}"
            )


def convolutions(side: int, layers: int) -> onnx.ModelProto:
    """float32 [1, side, side, 3] to float32 [1, features]."""
    rng = np.random.default_rng(0)
    nodes = [helper.make_node("Transpose", ["image"], ["x0"], perm=[0, 3, 1, 2])]
    weights = []
    for k in range(layers):
        shape = (FEATURES, FEATURES if k else 3, 3, 3)
        weights.append(
            numpy_helper.from_array(rng.normal(size=shape).astype(np.float32) / 9, f"w{k}")
        )
        nodes.append(helper.make_node("Conv", [f"x{k}", f"w{k}"], [f"c{k}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{k}"], [f"x{k + 1}"]))
    nodes.append(helper.make_node("GlobalAveragePool", [f"x{layers}"], ["pool"]))
    nodes.append(helper.make_node("Flatten", ["pool"], ["features"]))
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, side, side, 3])
    taken = helper.make_tensor_value_info("features", TensorProto.FLOAT, [1, FEATURES])
    graph = helper.make_graph(nodes, "convolutions", [given], [taken], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def bundle_of(model: onnx.ModelProto, side: int, folder: Path) -> Path:
    """A bundle of the model with one golden input and nothing to compare."""
    with contextlib.redirect_stdout(io.StringIO()):  # onnxruntime's converter speaks
        write_samples(folder)
    bundle, path = folder / "conv-onnx", "golden/0/input-0.bin"
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    image = np.random.default_rng(1).random((1, side, side, 3)).astype(np.float32)
    for place, data in {
        manifest["model"]["path"]: model.SerializeToString(),
        path: image.tobytes(),
    }.items():
        (bundle / place).write_bytes(data)
        (file,) = (f for f in manifest["files"] if f["path"] == place)
        file |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    given = {"name": "image", "dtype": "float32", "shape": list(image.shape)}
    taken = {"name": "features", "dtype": "float32", "shape": [1, FEATURES]}
    golden = {"name": "0", "inputs": [given | {"path": path}], "expect": []}
    seal(bundle, manifest | {"inputs": [given], "outputs": [taken], "golden": [golden]})
    return bundle


def compiled(folder: Path) -> Path:
    """The program, of the loader's files and its rival."""
    crypto = HERE / "stand-in" / "Sources" / "CryptoKit" / "SHA256.swift"
    module = ["-emit-module", "-module-name", "CryptoKit", "-emit-library", "-static", "-O"]
    place = inside(folder)
    loader = [p for p in sorted(LOADER.glob("*.swift")) if p.name != "self-test.swift"]
    sources = [inside(p) for p in (*loader, Path(__file__).parent / "swift" / "overhead.swift")]
    flags = ["-O", "-wmo", "-import-objc-header", inside(LOADER / "COnnxRuntime.h")]
    flags += ["-I", inside(SWIFT / "include"), "-I", place, "-L", place, "-lCryptoKit"]
    flags += [
        inside(SWIFT / "lib" / "libonnxruntime.so"),
        "-Xlinker",
        "-rpath",
        "-Xlinker",
        inside(SWIFT / "lib"),
    ]
    for command in (
        [
            "swiftc",
            *module,
            "-o",
            f"{place}/libCryptoKit.a",
            "-emit-module-path",
            f"{place}/CryptoKit.swiftmodule",
            inside(crypto),
        ],
        ["swiftc", "-parse-as-library", *flags, *sources, "-o", f"{place}/overhead"],
    ):
        done = chroot(command)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "overhead"


if __name__ == "__main__":
    main()
