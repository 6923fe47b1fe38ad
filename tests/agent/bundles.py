"""Small signed releases whose loader looks at their files and then does what the release tells it to."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgepack.trust.signature import sign
from tests.trust.bundles import change_manifest, entry, key, make, trust_data

#: Of a flash that goes well, in order (runtime/agent/README.md).
STATES = [
    "LOCK",
    "PREFLIGHT",
    "UPLOAD",
    "STAGE",
    "BUILD",
    "PROBE",
    "ARM",
    "SWITCH",
    "TRIAL",
    "COMMIT",
]
#: Valid on whatever day the tests run.
ALWAYS = {"not_before": "2020-01-01T00:00:00Z", "not_after": "2120-01-01T00:00:00Z"}
ISSUED = "2020-01-01T00:00:00Z"

#: Stands in for runtime/python/edgepack_loader.py, which needs numpy and onnxruntime; it reads every file, as that does.
FAKE_LOADER = b"""
import hashlib, json, os, sys, time
root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
manifest = json.load(open(os.path.join(root, "manifest.json")))
wrong = []
for file in manifest["files"]:
    with open(os.path.join(root, file["path"]), "rb") as data:
        if hashlib.sha256(data.read()).hexdigest() != file["sha256"]:
            wrong.append(file["path"])
does = open(os.path.join(root, "does.txt")).read()
if does == "crash":
    os.abort()
if does == "answer once":
    # Right as long as it is staged, wrong as soon as it is current.
    current = os.path.join(os.path.dirname(os.path.dirname(root)), "current")
    does = "miss" if os.path.realpath(current) == root else "answer"
if does == "hang":
    time.sleep(3600)
if sys.argv[1] == "latency":
    print(json.dumps({"median_ms": 1.0, "report": {}}))
    sys.exit(0)
passed = not wrong and does == "answer"
print(json.dumps({"passed": passed, "cases": [], "report": {}}))
sys.exit(0 if passed else 1)
"""


def trust(**changes: Any) -> bytes:
    """A trust file: the key `release`, at all times."""
    data = trust_data(entry("release", **ALWAYS), issued=ISSUED)
    return json.dumps({**data, **changes}).encode()


def files(seed: str = "1", *, does: str = "answer") -> dict[str, bytes]:
    """The files of a release: one that all releases share, one of its own by `seed`, the loader, and an empty one."""
    return {
        "model/shared.bin": random.Random(0).randbytes(40_000),
        "model/own.bin": random.Random(seed).randbytes(20_000),
        "loader/edgepack_loader.py": FAKE_LOADER,
        "does.txt": does.encode(),
        "empty.txt": b"",
    }


def release(
    folder: Path,
    seq: int = 1,
    *,
    does: str = "answer",
    by: str | None = "release",
    app: str = "digits",
    more: Mapping[str, bytes] | None = None,
) -> Path:
    """A bundle in `folder`, signed by a key unless that is None."""
    make(folder, {**files(str(seq), does=does), **(more or {})}, app=app, seq=seq)
    change_manifest(folder, by=None, runtime={"providers": [{"name": "CPUExecutionProvider"}]})
    if by is not None:
        sign(folder, key(by))
    return folder
