"""Takes the suite through the Python loader: `loader.py SUITE LOADER`; see suite.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

suite, loader_path = map(Path, sys.argv[1:])
sys.dont_write_bytecode = True
sys.path.insert(0, str(loader_path.parent))
from edgepack_loader import EdgepackBundle, EdgepackError  # noqa: E402


def error(error):
    return {"error": {"kind": error.kind, "message": str(error)}}


def array(x):
    flat = np.frombuffer(bytes.fromhex(x["hex"]), x["dtype"])
    # An array always fills its shape: what does not is given flat.
    fills = flat.size == np.prod(x["shape"], dtype=int)
    return flat.reshape(x["shape"]) if fills else flat


def call(session, inputs):
    try:
        outputs = session.run({x["name"]: array(x) for x in inputs})
    except EdgepackError as refusal:
        return error(refusal)
    return {
        "outputs": [
            {"name": n, "dtype": y.dtype.name, "shape": y.shape, "hex": y.tobytes().hex()}
            for n, y in outputs.items()
        ]
    }


def answer(case):
    try:
        with EdgepackBundle.open(suite / case["folder"]).session() as session:
            return {
                "self_test": session.self_test(),
                "report": session.report(),
                "calls": [call(session, inputs) for inputs in case["calls"]],
            }
    except EdgepackError as refusal:
        return error(refusal)


plan = json.loads((suite / "plan.json").read_text())
print(json.dumps({case["name"]: answer(case) for case in plan}))
