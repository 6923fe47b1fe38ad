"""Bundles with weights in fewer bits, built by edgepack and opened by their own loader: in Node, and in Chromium on WebGPU."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgepack.pipeline import BuildResult, build
from edgepack.prove.engine import answers
from tests.device.javascript.browser import visit
from tests.device.javascript.conftest import MODULES, Node, node_program
from tests.models import write
from tests.weighty import token_rows, weighty_model

Build = Callable[[str, str], BuildResult]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Build:
    folder = tmp_path_factory.mktemp("weights")
    model = write(weighty_model(), folder / "weighty.onnx")
    known: dict[tuple[str, str], BuildResult] = {}

    def make(target: str, precision: str) -> BuildResult:
        if (target, precision) not in known:
            (known[target, precision],) = build(
                model,
                targets=[target],
                precision=precision,
                calibration={"tokens": token_rows(64)},
                max_drop=10,
                output_dir=folder / precision,
            )
        return known[target, precision]

    return make


PROFILED = """
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
const ort = createRequire(process.argv[2] + '/x.js')('onnxruntime-web');
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(readFileSync(process.argv[3]), { enableProfiling: true });
await session.run({ tokens: new ort.Tensor('int32', new Int32Array(16), [1, 16]) });
session.endProfiling();
process.exit(0);
"""


def run_operators(model: Path, folder: Path) -> list[str]:
    """The operators that onnxruntime-web runs, in order."""
    (folder / "profiled.mjs").write_text(PROFILED)
    done = subprocess.run(
        [node_program(), folder / "profiled.mjs", str(MODULES), str(model)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={**os.environ},
    )
    events = [json.loads(x.rstrip(",")) for x in done.stdout.splitlines() if x.startswith("{")]
    return [e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")]


@pytest.mark.parametrize("precision", ["fp16-weights", "int8-weights"])
def test_the_bundle_answers_in_node(built: Build, node: Node, precision: str) -> None:
    result = built("web", precision)
    outcome = node.self_test(result.bundle)
    assert outcome["passed"], outcome
    assert outcome["report"]["precision"] == precision


@pytest.mark.parametrize(("precision", "share"), [("fp16-weights", 0.52), ("int8-weights", 0.3)])
def test_it_is_a_fraction_of_float32s_download(built: Build, precision: str, share: float) -> None:
    assert built("web", precision).size_after <= share * built("web", "fp32").size_after


@pytest.mark.parametrize("precision", ["fp16-weights", "int8-weights"])
def test_onnxruntime_web_runs_the_float_graph(built: Build, tmp_path: Path, precision: str) -> None:
    """Weights are expanded when the session is created, and not again in a run."""
    model, plain = (
        next((built("web-webgpu", p).bundle / "model").iterdir()) for p in (precision, "fp32")
    )
    ran = run_operators(model, tmp_path)
    assert "MatMul" in ran
    assert ran == run_operators(plain, tmp_path)


@pytest.mark.parametrize("gpu", [True, False], ids=["webgpu", "wasm"])
@pytest.mark.parametrize("precision", ["int4-weights", "int8-weights", "fp16-weights"])
def test_the_bundle_answers_in_chromium(built: Build, gpu: bool, precision: str) -> None:
    result = built("web-webgpu", precision)
    feed = {"tokens": token_rows(3)[2:]}
    seen = visit(result.bundle, [feed], build="webgpu", gpu=gpu)
    assert seen.outcome["passed"], seen.outcome
    report = seen.outcome["report"]
    wanted = "WebGpuExecutionProvider" if gpu else "CPUExecutionProvider"
    # Proven: every node runs on the GPU; nothing that expands weights is left in the graph.
    assert (report["provider"], report["proven"]) == (wanted, True)
    model = next((result.bundle / "model").iterdir())
    np.testing.assert_allclose(
        seen.answers[0]["scores"], answers(model, [feed])[0]["scores"], atol=1e-3
    )
