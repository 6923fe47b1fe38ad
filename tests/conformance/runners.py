"""The loaders that take the suite, each whole in one process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bundle_samples import conv_model, write_bundle
from tests.conftest import CACHE, ROOT, need

HERE = Path(__file__).parent
ADAPTERS = HERE / "adapters"
Answers = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Loader:
    """A loader and the runtime below it.

    Attributes:
        run: from the suite's folder to the adapter's answers.
        exact: its runtime computes as onnxruntime for Python does, to the bit.
    """

    name: str
    run: Callable[[Path], Answers]
    exact: bool


def reference(suite: Path, calls: dict[str, list[int]], version: str) -> dict[str, Any]:
    """What onnxruntime for Python, in that version, answers to the calls of these numbers.

    Returns: `{"version", "answers": {name: [[{"name", "dtype", "shape", "hex"}]]}}`.
    """
    path = os.environ.get("PYTHONPATH", "")
    if version != metadata.version("onnxruntime"):
        wheel = need(CACHE / "conformance" / f"onnxruntime-{version}", "conformance.sh")
        path = f"{wheel}{os.pathsep}{path}"
    command = [sys.executable, ADAPTERS / "reference.py", suite, json.dumps(calls)]
    return _answers(command, PYTHONPATH=path)


def python(suite: Path) -> Answers:
    """The Python loader, over the onnxruntime that is installed."""
    loader = ROOT / "runtime" / "python" / "edgepack_loader.py"
    return _answers([sys.executable, ADAPTERS / "loader.py", suite, loader])


def cpp(suite: Path) -> Answers:
    """The C++ loader, over the C library of the onnxruntime that is installed."""
    from tests.device.cpp.programs import compiled, library

    return _answers([compiled(ADAPTERS / "conformance.cpp"), suite, library()])


def kotlin(suite: Path) -> Answers:
    """The Kotlin loader on a JVM, over Android's own framework and onnxruntime for Java."""
    from tests.device.kotlin.jvm import Jvm

    with Jvm() as jvm:
        return dict(jvm.ask("conformance", suite=suite)["answers"])


def swift(suite: Path) -> Answers:
    """The Swift loader on Linux, as the package of one of the suite's bundles, over the iOS framework's C API."""
    from tests.device.swift import linux

    # The very bundle that tests/device/swift compiles: the compiler runs once for both.
    package = suite / "swift" / "conv-onnx"
    if not package.exists():
        model = conv_model()
        write_bundle(package, model, model.SerializeToString(), "onnx")
        linux.add_loader(package)
    done = linux.chroot([linux.inside(linux.build(package) / "conformance"), linux.inside(suite)])
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def node(suite: Path) -> Answers:
    """The JavaScript loader in Node, over onnxruntime-web."""
    from tests.device.javascript.conftest import MODULES, node_program

    loader = ROOT / "runtime" / "javascript" / "edgepack.mjs"
    return _answers([node_program(), ADAPTERS / "node.mjs", suite, loader, MODULES])


def chromium(suite: Path) -> Answers:
    """The JavaScript loader in a page of Chromium, over onnxruntime-web."""
    from tests.device.javascript import browser

    loader = suite / "javascript"
    shutil.copytree(ROOT / "runtime" / "javascript", loader, dirs_exist_ok=True)
    adapter = {"conformance.mjs": (ADAPTERS / "conformance.mjs").read_text()}
    program = """async () => {
        const { conformance } = await import('/conformance.mjs');
        const loader = await import('/bundle/javascript/edgepack.mjs');
        const ort = await import('/ort/ort.wasm.bundle.min.mjs');
        const plan = await (await fetch('/bundle/plan.json')).json();
        return JSON.stringify(await conformance(loader, ort, plan, (folder) => `/bundle/${folder}`));
    }"""
    with (
        browser.serve(suite, True, adapter) as port,
        browser.chromium().new_context() as context,
    ):
        page = context.new_page()
        page.goto(f"http://127.0.0.1:{port}/")
        return dict(json.loads(page.evaluate(program)))


LOADERS = (
    Loader(name="python", run=python, exact=True),
    Loader(name="cpp", run=cpp, exact=True),
    Loader(name="kotlin", run=kotlin, exact=True),
    Loader(name="swift", run=swift, exact=True),
    Loader(name="node", run=node, exact=False),
    Loader(name="chromium", run=chromium, exact=False),
)


def _answers(command: Sequence[str | Path], **environment: str) -> Any:
    done = subprocess.run(
        command,
        env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
