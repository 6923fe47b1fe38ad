"""Bundles to flash: real manifests and signatures, any bytes as the model, and an agent, the fake one or the real one."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from edgepack.bundle.application import application
from edgepack.flash.payload import Payload, opened
from edgepack.trust.rules import rules
from edgepack.trust.signature import sign
from tests.trust.bundles import DAY, entry, key, trust_data

APP = "digits"
AGENT = "edgepack-agent.pyz"


def fake_agent() -> bytes:
    """The fake agent as an application."""
    return application([Path(__file__).parent / "fake_agent"])


def some_bytes(size: int, seed: int = 0) -> bytes:
    """Bytes that do not compress, the same in every run."""
    return random.Random(seed).randbytes(size)


def make(
    folder: Path,
    files: Mapping[str, bytes],
    *,
    seq: int = 1,
    app: str = APP,
    agent: bytes | None = None,
    signed_by: str | None = "release",
) -> Path:
    """A bundle of these files and an agent, the fake one if none is given."""
    files = {**files, AGENT: fake_agent() if agent is None else agent}
    files = {"model/m.onnx": b"weights", **files}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    listed = [
        {"path": n, "size": len(d), "sha256": sha256(d).hexdigest(), "role": _role(n)}
        for n, d in sorted(files.items())
    ]
    manifest = {
        "schema": 1,
        "critical": [],
        "release": {"app": app, "version": f"1.0.{seq}", "seq": seq},
        "target": {"name": "sample", "requires": {}},
        "model": {"path": "model/m.onnx", "format": "onnx", "precision": "fp32", "opset": 17},
        "inputs": [{"name": "x", "dtype": "float32", "shape": [1]}],
        "outputs": [{"name": "y", "dtype": "float32", "shape": [1]}],
        "runtime": {
            "language": "python",
            "package": "onnxruntime",
            "version": "1.29.0",
            "min_version": "1.20.0",
            "providers": [{"name": "CPUExecutionProvider", "options": {}}],
            "session": {
                "graph_optimization_level": "all",
                "intra_op_num_threads": 0,
                "config": {},
            },
        },
        "golden": [],
        "files": listed,
        "build": {
            "source": {
                **{"name": "m.onnx", "format": "onnx", "size": 7, "framework": "onnx"},
                "sha256": "0" * 64,
            },
            "precision": {"requested": "fp32", "chosen": "fp32", "because": "asked for"},
            "golden_from": "random",
            "steps": [],
            "tools": {},
        },
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
    (folder / "manifest.json").write_text(text)
    if signed_by is not None:
        sign(folder, key(signed_by))
    return folder


def write_trust(place: Path) -> Path:
    """A trust file that trusts the key `release` today."""
    today = {
        "not_before": rules().as_text(time.time() - 2 * DAY),
        "not_after": rules().as_text(time.time() + 300 * DAY),
    }
    issued = rules().as_text(time.time() - DAY)
    data = trust_data(entry("release", **today), issued=issued)
    place.write_text(json.dumps(data))
    return place


@contextmanager
def trusted(bundle: Path) -> Iterator[Payload]:
    """The bundle, opened by somebody who trusts the key `release`."""
    with TemporaryDirectory() as folder:
        trust = write_trust(Path(folder) / "trust.json")
        with opened(bundle, trust=trust, allow_unsigned=False) as payload:
            yield payload


def _role(name: str) -> str:
    return name.partition("/")[0] if name.startswith(("model/", "golden/", "loader/")) else "loader"
