"""The suite on disk: one folder a bundle, and `plan.json`, which is all that an adapter reads besides.

    plan.json: [{"name", "folder", "calls": [[{"name", "dtype", "shape", "size", "hex"}]]}], `size` in bytes

An adapter opens each bundle, opens a session, runs the self-test, then the calls, and prints one JSON object, by name:

    {"error": {"kind", "message"}}, or
    {"self_test": {"passed", "cases": [{"case", "output", "from", "max_abs", "passed"}]},
     "report": {"provider", "passed_over", "runtime_version", "model_sha256", "precision"},
     "calls": [{"outputs": [{"name", "dtype", "shape", "hex"}]} or {"error": {"kind", "message"}}]}
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import onnx

import edgepack
from edgepack.targets import Precision, list_targets
from tests.bundle_samples import conv_model, random_feeds, seal, to_ort, write_bundle
from tests.conformance.cases import (
    CPU,
    DTYPE_CALLS,
    FLAWS,
    FREE_CALLS,
    Call,
    Case,
    content,
    put,
    tensor,
)
from tests.conformance.models import MODELS

_CALLS = {"dtypes": DTYPE_CALLS, "free": FREE_CALLS}


def write_suite(root: Path) -> tuple[Case, ...]:
    """Write the suite into `root`; give its cases, in order."""
    cases = [*_plain(root), *_as_built(root), *_flawed(root), _beyond_double(root)]
    plan = [
        {"name": case.name, "folder": folder, "calls": [_as_json(c) for c in case.calls]}
        for folder, case in cases
    ]
    (root / "plan.json").write_text(json.dumps(plan))
    return tuple(case for _, case in cases)


def _plain(root: Path) -> list[tuple[str, Case]]:
    """Each model of the table as .onnx and as .ort."""
    cases = []
    for name, make in MODELS.items():
        model = make()
        calls = _CALLS.get(name) or _random_calls(model)
        for suffix in ("onnx", "ort"):
            data = model.SerializeToString() if suffix == "onnx" else to_ort(model)
            write_bundle(root / f"{name}-{suffix}", model, data, suffix, cases=1, name=name)
            cases.append((f"{name}-{suffix}", Case(name=f"{name}.{suffix}", calls=calls)))
    return cases


def _as_built(root: Path) -> list[tuple[str, Case]]:
    """The convolution in every precision of every target, as edgepack builds it; each model once."""
    source = root / "built" / "conv.onnx"
    source.parent.mkdir()
    onnx.save(conv_model(), source)
    calls = _random_calls(conv_model())
    seen: set[str] = set()
    cases = []
    for precision in get_args(Precision):
        targets = [t.name for t in list_targets() if precision in t.precisions]
        results = edgepack.build(
            source,
            targets=targets,
            precision=precision,
            output_dir=source.parent / precision,
            calibration="random",
            # Here the loaders are on trial, not the precision.
            max_drop=100.0,
        )
        for result in results:
            manifest = json.loads((result.bundle / "manifest.json").read_bytes())
            (digest,) = (f["sha256"] for f in manifest["files"] if f["role"] == "model")
            if digest not in seen:
                seen.add(digest)
                folder = f"built-{precision}-{result.target}"
                shutil.move(result.bundle, root / folder)
                _for_any_loader(root / folder, manifest)
                name = f"{precision} of {result.target}"
                cases.append((folder, Case(name=name, precision=precision, calls=calls)))
    shutil.rmtree(source.parent)
    return cases


def _for_any_loader(bundle: Path, manifest: dict[str, Any]) -> None:
    """Let the CPU of any machine run a bundle that was made for one device."""
    manifest["runtime"]["providers"] = [{"name": CPU, "options": {}}]
    manifest["runtime"].update(language="python", min_version="1.20.0")
    # Every device's kernels round differently; what they make of the calls is compared more strictly.
    for golden in manifest["golden"]:
        for expectation in golden["expect"]:
            expectation["atol"] = max(expectation["atol"], 0.05)
    seal(bundle, manifest)


def _flawed(root: Path) -> list[tuple[str, Case]]:
    cases = []
    for k, (change, case) in enumerate(FLAWS.values()):
        folder = f"flaw-{k:02}"
        shutil.copytree(root / "conv-ort", root / folder)
        change(root / folder)
        cases.append((folder, case))
    return cases


def _beyond_double(root: Path) -> tuple[str, Case]:
    """64-bit integers that differ by one where Double has but every other: at no tolerance, and at one."""
    folder = "beyond-double"
    bundle = root / folder
    shutil.copytree(root / "dtypes-ort", bundle)
    golden = json.loads((bundle / "manifest.json").read_bytes())["golden"][0]
    answers = [e for e in golden["expect"] if e["name"] == "out_i64"]
    inputs = [x for x in golden["inputs"] if x["name"] == "i64"]
    for one, value in zip([*inputs, *answers], (2**53 + 1, 2**53, 2**53 + 2), strict=True):
        data = np.full(one["shape"], value, np.int64).tobytes()
        content(one["path"], lambda _, data=data: data, listed=True)(bundle)
    for answer, atol in zip(answers, (0.0, 1.0), strict=True):
        place = f"golden.0.expect.{golden['expect'].index(answer)}"
        put(f"{place}.atol", atol)(bundle)
        put(f"{place}.rtol", 0.0)(bundle)
    case = Case(
        name="int64 beyond Double", misses=(f"0/out_i64/{answers[0]['from']}",), passed=False
    )
    return folder, case


def _random_calls(model: onnx.ModelProto) -> tuple[Call, ...]:
    rng = np.random.default_rng(7)
    return tuple(
        Call(
            name=f"random {k}",
            inputs={n: tensor(x, x.dtype.name) for n, x in random_feeds(model, rng).items()},
        )
        for k in range(3)
    )


def _as_json(call: Call) -> list[dict[str, Any]]:
    return [
        {
            **{"name": name, "dtype": t.dtype, "shape": t.shape},
            **{"size": len(t.data), "hex": t.data.hex()},
        }
        for name, t in call.inputs.items()
    ]
