"""Samples with the JavaScript loader in them, and Node to run it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

from tests.bundle_samples import seal
from tests.conftest import CACHE, ROOT, need

HERE = Path(__file__).parent
LOADER = ROOT / "runtime" / "javascript"
MODULES = CACHE / "javascript" / "node_modules"

PROFILE = yaml.safe_load((ROOT / "targets" / "web.yaml").read_text())
MODULE, WASM = PROFILE["runtime"]["files"]

VALUES = {
    "app": "sample",
    "target": "web",
    "bundle": "bundle",
    "precision": "fp32",
    "package": "onnxruntime-web",
    "version": "1.30.0",
    "min_version": "1.30.0",
    "providers": "CPUExecutionProvider",
    "model_path": "model/conv-ort.ort",
    "inputs_table": "| name | dtype | shape |\n|---|---|---|\n| `image` | float32 | 1, 8, 8, 1 |",
    "outputs_table": "| name | dtype | shape |\n|---|---|---|\n| `probabilities` | float32 | 1, 10 |",
    "input_name": "image",
    "input_dtype": "float32",
    "input_shape": "1, 8, 8, 1",
    "input_elements": "64",
    "output_name": "probabilities",
    "package_name": "bundle",
    "package_version": "0.0.0",
    "runtime_module": MODULE["path"],
    "runtime_entry": "wasm",
    "runtime_integrity": "sha256-" + base64.b64encode(bytes.fromhex(MODULE["sha256"])).decode(),
    "runtime_wasm": WASM["path"],
}


class Node:
    """A Node process that runs snippets (see worker.mjs)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [node_program(), HERE / "worker.mjs", MODULES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Node:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, bundle: Path, snippet: str) -> dict[str, Any]:
        """What a snippet returns, as {value}, or what it throws, as {error: {kind, message}}."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"folder": str(bundle), "snippet": snippet}) + "\n")
        self._process.stdin.flush()
        with _deadline(self._process):
            return json.loads(self._process.stdout.readline())

    def value(self, bundle: Path, snippet: str) -> Any:
        answer = self.run(bundle, snippet)
        assert "error" not in answer, answer
        return answer.get("value")

    def error(self, bundle: Path, snippet: str) -> tuple[str, str]:
        """Kind and message."""
        answer = self.run(bundle, snippet)
        assert "error" in answer, answer
        return answer["error"]["kind"], answer["error"]["message"]

    def self_test(self, bundle: Path) -> dict[str, Any]:
        return self.value(bundle, "return (await session()).selfTest()")


@contextmanager
def _deadline(process: subprocess.Popen[str]) -> Iterator[None]:
    timer = threading.Timer(60, process.kill)
    timer.start()
    yield
    timer.cancel()


def node_program() -> str:
    """Node 20.16 or newer, which Debian 12 has not: then the one that tests/setup/javascript.sh fetched."""
    need(MODULES / "onnxruntime-web", "javascript.sh")
    fetched = MODULES / "node" / "bin" / "node"
    return str(fetched) if fetched.exists() else "node"


def run_self_test(bundle: Path, **environment: str) -> tuple[int, dict[str, Any]]:
    """Exit code and answer of the bundle's own program, run as runtime.yaml says."""
    spec = yaml.safe_load((LOADER / "runtime.yaml").read_text())["self_test"]
    done = subprocess.run(
        [node_program() if word == "node" else word for word in spec["command"]],
        cwd=bundle,
        env={**os.environ, "EDGEPACK_NODE_MODULES": str(MODULES), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


class Bundle:
    """A sample to change."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def manifest(self) -> dict[str, Any]:
        return json.loads((self.root / "manifest.json").read_text())

    def change(self, change: Callable[[dict[str, Any]], object]) -> Path:
        """Seal the manifest anew after `change(manifest)`."""
        manifest = self.manifest()
        change(manifest)
        seal(self.root, manifest)
        return self.root

    def replace(self, path: str, data: bytes) -> Path:
        """Give a listed file another content, and the manifest its size and hash."""
        (self.root / path).write_bytes(data)

        def change(manifest: dict[str, Any]) -> None:
            entry = next(f for f in manifest["files"] if f["path"] == path)
            entry |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

        return self.change(change)

    def providers(self, *names: str) -> Path:
        listed = [{"name": name, "options": {}} for name in names]
        return self.change(lambda m: m["runtime"].update(providers=listed))


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """One process for all snippets that leave nothing behind."""
    with Node() as process:
        yield process


@pytest.fixture
def fresh_node() -> Iterator[Node]:
    """A process in which onnxruntime-web has not started yet."""
    with Node() as process:
        yield process


def complete_copy(sample: Path, root: Path) -> Bundle:
    """A copy of a sample with the loader in it."""
    shutil.copytree(sample, root)
    for source, place in yaml.safe_load((LOADER / "runtime.yaml").read_text())["files"].items():
        text = (LOADER / source).read_text()
        if source.endswith(".in"):
            text = Template(text).substitute(VALUES)
        (root / place).parent.mkdir(exist_ok=True)
        (root / place).write_text(text)
    bundle = Bundle(root)
    bundle.change(lambda manifest: _complete(manifest, root))
    return bundle


@pytest.fixture
def copy(samples: Path, tmp_path: Path) -> Callable[[str], Bundle]:
    """`copy(sample)`: a copy with the loader in it."""
    return lambda sample: complete_copy(samples / sample, tmp_path / "bundle")


def _complete(manifest: dict[str, Any], root: Path) -> None:
    """List the loader's files, and those of onnxruntime-web."""
    manifest["runtime"]["files"] = [MODULE, WASM]
    known = {entry["path"] for entry in manifest["files"]}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        name, data = path.relative_to(root).as_posix(), path.read_bytes()
        if name not in {*known, "manifest.json"}:
            digest = hashlib.sha256(data).hexdigest()
            entry = {"path": name, "size": len(data), "sha256": digest, "role": "loader"}
            manifest["files"].append(entry)


@pytest.fixture
def conv(copy: Callable[[str], Bundle]) -> Bundle:
    return copy("conv-ort")


@pytest.fixture
def multi(copy: Callable[[str], Bundle]) -> Bundle:
    return copy("multi-ort")
