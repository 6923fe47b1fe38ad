"""What onnxruntime itself answers to the suite's calls: `reference.py SUITE NAME…`, no loader between; see suite.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

LEVELS = {"disabled": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED"}

suite, names = Path(sys.argv[1]), json.loads(sys.argv[2])


def answers(case):
    bundle = suite / case["folder"]
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    settings = manifest["runtime"]["session"]
    options = ort.SessionOptions()
    level = LEVELS.get(settings["graph_optimization_level"], "ENABLE_ALL")
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_{level}")
    options.intra_op_num_threads = settings["intra_op_num_threads"]
    for entry in settings["config"].items():
        options.add_session_config_entry(*entry)
    path = str(bundle / manifest["model"]["path"])
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [y.name for y in session.get_outputs()]
    return [run(session, outputs, case["calls"][k]) for k in names[case["name"]]]


def run(session, outputs, inputs):
    feeds = {
        x["name"]: np.frombuffer(bytes.fromhex(x["hex"]), x["dtype"]).reshape(x["shape"])
        for x in inputs
    }
    return [
        {"name": n, "dtype": y.dtype.name, "shape": y.shape, "hex": y.tobytes().hex()}
        for n, y in zip(outputs, map(np.asarray, session.run(outputs, feeds)))  # noqa: B905
    ]


plan = json.loads((suite / "plan.json").read_text())
found = {case["name"]: answers(case) for case in plan if case["name"] in names}
print(json.dumps({"version": ort.__version__, "answers": found}))
