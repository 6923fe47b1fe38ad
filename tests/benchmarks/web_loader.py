"""A run through the JavaScript loader against the bare onnxruntime-web session, in Chromium.

    python tests/benchmarks/web_loader.py [--rounds N]

One page, one opened model of about 1 ms, the same input; in turn A B A B …, 20 runs each; the ratio is that of the medians of each pair of
turns, and the result the median ratio. What the loader adds: names, dtypes and shapes checked, a tensor made, runs in turn.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.bundle_samples import write_samples
from tests.device.javascript.browser import opened, serve
from tests.device.javascript.conftest import complete_copy

MEASURE = """async (rounds) => {
  const ort = await import('/ort/ort.wasm.bundle.min.mjs');
  const { EdgepackBundle } = await import('/bundle/loader/edgepack.mjs');
  const bundle = await EdgepackBundle.open('/bundle', { cache: false });
  const session = await bundle.session({ ort, threads: 1 });
  const bare = await ort.InferenceSession.create(
    new Uint8Array(await (await fetch(`/bundle/${bundle.manifest.model.path}`)).arrayBuffer()),
    { executionProviders: ['wasm'], graphOptimizationLevel: 'all' });
  const data = Float32Array.from({ length: 64 }, Math.random), shape = [1, 8, 8, 1];
  const ways = {
    loader: () => session.run({ image: { data, shape } }),
    bare: () => bare.run({ image: new ort.Tensor('float32', data, shape) }),
  };
  const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  const turn = async (way) => {
    const times = [];
    for (let k = 0; k < 20; k += 1) {
      const start = performance.now();
      await way();
      times.push(performance.now() - start);
    }
    return median(times);
  };
  for (let k = 0; k < 20; k += 1) for (const way of Object.values(ways)) await turn(way);
  const pairs = [];
  for (let k = 0; k < rounds; k += 1) {
    const first = k % 2 ? 'bare' : 'loader', second = k % 2 ? 'loader' : 'bare';
    pairs.push({ [first]: await turn(ways[first]), [second]: await turn(ways[second]) });
  }
  return pairs;
}"""


def main() -> None:
    """Print the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=100)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder) / "samples")
        bundle = complete_copy(Path(folder) / "samples" / "conv-onnx", Path(folder) / "bundle")
        bundle.replace("model/conv-onnx.onnx", _one_millisecond().SerializeToString())
        with serve(bundle.root, True) as port, opened(f"http://127.0.0.1:{port}/") as (page, _):
            pairs = page.evaluate(MEASURE, rounds)
    ratios = [pair["loader"] / pair["bare"] for pair in pairs]
    loader, bare = (statistics.median(pair[way] for pair in pairs) for way in ("loader", "bare"))
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f"loader {loader:.3f} ms, bare session {bare:.3f} ms")
    print(f"median ratio {statistics.median(ratios):.3f} (middle half {low:.3f}–{high:.3f})")


def _one_millisecond() -> onnx.ModelProto:
    """The sample's input and output with 13 million multiplications between: about 1 ms in WebAssembly, one thread."""
    rng = np.random.default_rng(0)
    constants = [numpy_helper.from_array(np.array([64, 1], np.int64), "column")]
    nodes = [helper.make_node("Reshape", ["image", "column"], ["x0"])]
    for k, (rows, columns) in enumerate([(1, 256), (256, 256), (256, 256), (256, 256), (256, 10)]):
        weight = (rng.normal(size=(rows, columns)) / rows**0.5).astype(np.float32)
        constants.append(numpy_helper.from_array(weight, f"weight-{k}"))
        nodes.append(helper.make_node("MatMul", [f"x{k}", f"weight-{k}"], [f"x{k + 1}"]))
    nodes.append(helper.make_node("ReduceMean", ["x5"], ["logits"], axes=[0], keepdims=1))
    nodes.append(helper.make_node("Softmax", ["logits"], ["probabilities"]))
    graph = helper.make_graph(
        nodes,
        "benchmark",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    main()
