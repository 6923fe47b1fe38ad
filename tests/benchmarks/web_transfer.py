"""What a browser downloads on the first start of a web bundle, and on the second.

    python tests/benchmarks/web_transfer.py [--megabytes N]

A model of N MB of float32 weights (random, so as hard to compress as trained ones), as fp32, as fp16 and as int8, is self-hosted with
`--compress` (Brotli 11) and served by the bundle's own server; a page opens it and runs its self-test. Counted is what Chromium says came
over the wire: bodies and headers. The second start is with the server gone.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bundle_samples import write_samples
from tests.device.javascript.browser import opened
from tests.device.javascript.conftest import MODULES, Bundle, complete_copy, node_program

ENVIRONMENT = {**os.environ, "EDGEPACK_NODE_MODULES": str(MODULES)}


def main() -> None:
    """Print the bytes of each precision's first and second start."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=3.0)
    megabytes = parser.parse_args().megabytes
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder) / "samples")
        bundle = complete_copy(Path(folder) / "samples" / "conv-onnx", Path(folder) / "bundle")
        for precision in ("fp32", "fp16", "int8"):
            data = _model(int(megabytes * 1e6 / 4), precision).SerializeToString()
            bundle.replace("model/conv-onnx.onnx", data)
            hosted = _hosted(bundle, Path(folder) / precision)
            _report(precision, len(data), hosted)


def _hosted(bundle: Bundle, target: Path) -> Path:
    bundle.change(lambda manifest: manifest.update(golden=[]))
    program = bundle.root / "loader" / "self-host.mjs"
    subprocess.run([node_program(), program, target, "--compress"], env=ENVIRONMENT, check=True)
    return target


def _report(precision: str, size: int, hosted: Path) -> None:
    packed = {p.name: p.stat().st_size for p in hosted.rglob("*.br")}
    model = packed.get("conv-onnx.onnx.br", size)
    first, second = _transferred(hosted)
    print(
        f"{precision}: model {size / 1e6:.2f} MB ({model / 1e6:.2f} compressed), "
        f"first start {first / 1e6:.2f} MB over the wire, second without a network {second}",
        flush=True,
    )


def _transferred(hosted: Path) -> tuple[int, str]:
    """Bytes of the first start, and what the page's verdict is after a start without the server."""
    server = subprocess.Popen(
        [node_program(), hosted / "demo" / "serve.mjs", "0"],
        env=ENVIRONMENT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert server.stdout is not None
    url = server.stdout.readline().split()[0]
    try:
        with opened("about:blank") as (page, _):
            received = []
            devtools = page.context.new_cdp_session(page)
            devtools.send("Network.enable")
            devtools.on(
                "Network.loadingFinished", lambda e: received.append(e["encodedDataLength"])
            )
            page.goto(url)
            page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
            total = int(sum(received))
            server.kill()
            server.wait()
            page.reload()
            page.wait_for_selector("html[data-ready]", state="attached", timeout=120_000)
            return total, "failed" if page.is_visible("#failure") else "works"
    finally:
        server.kill()
        server.communicate()


def _model(weights: int, precision: str) -> onnx.ModelProto:
    """64 values to 10 through two matrices of `weights` numbers, in the precision's own type."""
    rng = np.random.default_rng(0)
    wide = weights // 74
    constants, nodes = [], [helper.make_node("Flatten", ["image"], ["flat"])]
    for name, source, shape in (("one", "flat", (64, wide)), ("logits", "one", (wide, 10))):
        weight = (rng.normal(size=shape) / shape[0] ** 0.5).astype(np.float32)
        stored = weight
        if precision == "fp16":
            stored = weight.astype(np.float16)
            nodes.append(
                helper.make_node("Cast", [f"{name}-w"], [f"{name}-f"], to=TensorProto.FLOAT)
            )
        elif precision == "int8":
            scale = np.abs(weight).max() / np.float32(127)
            stored = np.round(weight / scale).astype(np.int8)
            constants.append(numpy_helper.from_array(np.array(scale, np.float32), f"{name}-s"))
            nodes.append(
                helper.make_node("DequantizeLinear", [f"{name}-w", f"{name}-s"], [f"{name}-f"])
            )
        constants.append(numpy_helper.from_array(stored, f"{name}-w"))
        factor = f"{name}-w" if precision == "fp32" else f"{name}-f"
        nodes.append(helper.make_node("MatMul", [source, factor], [name]))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "transfer",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
