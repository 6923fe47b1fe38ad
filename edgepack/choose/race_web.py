"""Which of several models is quickest on onnxruntime-web: its WebAssembly runs under Node as in a browser."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack import proc
from edgepack.artifact import ModelFile
from edgepack.choose.race import Timing
from edgepack.errors import EnvironmentMissing, StepError
from edgepack.prove.engine import Tensors
from edgepack.runtimes import Runtime

_SCRIPT = Path(__file__).with_suffix(".mjs")
#: Rounds in which each model runs once, the time after which no further round begins, and runs that count for nothing: V8 compiles
#: WebAssembly a second time, better, while it runs.
_ROUNDS, _LONGEST_MS, _FEWEST, _WARM_UPS = 200, 6000, 7, 8
_TIMEOUT_S = 300.0


@dataclass(frozen=True, kw_only=True)
class WebEngine:
    """An installed onnxruntime-web.

    Attributes:
        package: its package.json.
    """

    package: Path
    version: str


def find_web_engine(runtime: Runtime) -> WebEngine:
    """The onnxruntime-web in or above the folder EDGEPACK_NODE_MODULES names, or else the one edgepack was called in.

    Raises:
        EnvironmentMissing: there is none, it is older than the target's runtime may be, or there is no Node.
    """
    install = f"npm install {runtime.package}@{runtime.version}"
    if shutil.which("node") is None:
        raise EnvironmentMissing("node is not on PATH", f"install Node.js, then {install}")
    folder = Path(os.environ.get("EDGEPACK_NODE_MODULES") or ".").resolve()
    for above in (folder, *folder.parents):
        package = above / "node_modules" / runtime.package / "package.json"
        if not package.is_file():
            continue
        version = str(json.loads(package.read_text(encoding="utf-8")).get("version", "0"))
        if _numbers(version) < _numbers(runtime.min_version):
            raise EnvironmentMissing(
                f"{runtime.package} in {above / 'node_modules'} is {version}, older than {runtime.min_version}",
                install,
            )
        return WebEngine(package=package, version=version)
    raise EnvironmentMissing(f"{runtime.package} is not in {folder / 'node_modules'}", install)


def race_web(
    models: Mapping[str, ModelFile], feed: Tensors, runtime: Runtime, engine: WebEngine
) -> dict[str, Timing]:
    """Time of each model on one feed, WebAssembly, one thread, runs interleaved (A B C A B C …).

    Raises:
        StepError: onnxruntime-web cannot open or run one. EnvironmentMissing: Node ended otherwise, or never.
    """
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        request = Path(scratch) / "request.json"
        data = _request(models, feed, runtime, engine, Path(scratch))
        request.write_text(json.dumps(data), encoding="utf-8")
        done = proc.run(
            ["node", str(_SCRIPT), str(request)], cwd=Path(scratch), timeout_s=_TIMEOUT_S
        )
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise EnvironmentMissing(
            f"node {_SCRIPT.name} ended with exit {done.returncode}: {done.stderr.strip()[-500:]}",
            "use Node.js 20 or newer, or install the package again",
        ) from error
    if "error" in answer:
        name, message = answer["error"]["model"], answer["error"]["message"]
        raise StepError(
            f"{runtime.package} {engine.version} cannot run {name}: {message}",
            "use another --precision; the message names the node",
        )
    return {name: Timing(tuple(times)) for name, times in answer["times"].items()}


def _request(
    models: Mapping[str, ModelFile],
    feed: Tensors,
    runtime: Runtime,
    engine: WebEngine,
    folder: Path,
) -> dict[str, Any]:
    inputs = []
    for i, (name, x) in enumerate(feed.items()):
        path = folder / f"input-{i}.bin"
        path.write_bytes(np.ascontiguousarray(x).tobytes())
        inputs.append(
            {"name": name, "dtype": x.dtype.name, "shape": list(x.shape), "path": str(path)}
        )
    return {
        "package": str(engine.package),
        "models": [{"name": n, "path": str(m.path.resolve())} for n, m in models.items()],
        "inputs": inputs,
        "options": {
            "graphOptimizationLevel": runtime.session.graph_optimization_level,
            "extra": runtime.session.config,
        },
        "rounds": _ROUNDS,
        "longest_ms": _LONGEST_MS,
        "fewest": _FEWEST,
        "warm_ups": _WARM_UPS,
    }


def _numbers(version: str) -> tuple[int, ...]:
    """`1.30.0-dev.2` → (1, 30, 0)."""
    parts = version.split("-")[0].split(".")
    return tuple(int(p) for p in parts if p.isdigit())
