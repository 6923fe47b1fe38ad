"""Are these ONNX files the model? The source framework answers once, each candidate is opened, checked and compared.

python -m tests.zoo.judge ENTRY REPORT.json NAME=MODEL.onnx…    the verdicts as JSON, in a process of its own
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tests.zoo.build import model_path
from tests.zoo.entries import RTOL, Entry, read_entries
from tests.zoo.frameworks import Edge, Framework, Tensors, open_model
from tests.zoo.weights import noise

#: Other numbers than edgepack's own golden cases.
_SEED = 7
_CASES = 2
#: A free size, and a free first axis.
_SIZE, _BATCH = 64, 2
#: Domains that onnxruntime serves on every device.
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
#: Up to so many outputs of plain tf2onnx are matched by trying every order.
_MOST_ORDERS = 4


def judge(entry: Entry, candidates: dict[str, Path]) -> dict[str, Any]:
    """A verdict a candidate; under `source`, why the framework itself cannot answer, then only for those that no runtime opens."""
    try:
        model = open_model(entry, model_path(entry))
        feeds, answers = _asked(entry, model)
    except Exception as error:
        return {"source": first_line(error)} | {
            name: {"wrong": why} for name, path in candidates.items() if (why := _unusable(path))
        }
    verdicts: dict[str, Any] = {}
    for name, path in candidates.items():
        try:
            verdicts[name] = _verdict(entry, model, path, feeds, answers)
        except Exception as error:
            verdicts[name] = {"wrong": f"onnxruntime: {first_line(error)}"}
    return verdicts


def first_line(error: BaseException) -> str:
    """The error's type and the first line of its message."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}".strip()


def _asked(entry: Entry, model: Framework) -> tuple[list[Tensors], list[Tensors]]:
    """Random feeds with what the framework answers; of batch 2 where it can take that."""
    for batch in (_BATCH, 1):
        rng = np.random.default_rng(_SEED)
        feeds: list[Tensors] = [
            {e.name: noise(_sizes(e, entry, batch), e.dtype, rng, entry.span) for e in model.inputs}
            for _ in range(_CASES)
        ]
        try:
            return feeds, [model.answer(f) for f in feeds]
        except Exception:
            if batch == 1:
                raise
    raise AssertionError


def _sizes(edge: Edge, entry: Entry, batch: int) -> list[int]:
    if edge.name in entry.shapes:
        # edgepack was asked for these sizes, so its file takes no others.
        return entry.shapes[edge.name]
    free = [batch if i == 0 else _SIZE for i in range(len(edge.shape))]
    return [f if s is None else s for f, s in zip(free, edge.shape, strict=True)]


def _verdict(
    entry: Entry,
    model: Framework,
    path: Path,
    feeds: Sequence[Tensors],
    answers: Sequence[Tensors],
) -> dict[str, Any]:
    foreign = _foreign(path)
    if foreign:
        return {"wrong": f"left in the graph: {foreign}"}
    session = _session(path)
    names = [o.name for o in session.get_outputs()]
    worst, excess, named = 0.0, 0.0, True
    for feed, expected in zip(feeds, answers, strict=True):
        given, same_names = _given(session.get_inputs(), feed, model)
        came = dict(zip(names, session.run(names, given), strict=True))
        pairs = _paired(came, expected, entry.atol)
        if pairs is None:
            shapes = [list(x.shape) for x in came.values()]
            return {"wrong": f"outputs {shapes} for {[list(x.shape) for x in expected.values()]}"}
        named = named and same_names and set(came) == set(expected)
        for a, b in pairs:
            worst = max(worst, _distance(a, b))
            excess = max(excess, _excess(a, b, entry.atol))
    verdict: dict[str, Any] = {"worst": _finite(worst), "of_bound": _finite(excess), "named": named}
    if not excess <= 1.0:
        verdict["wrong"] = f"answers are off by up to {worst:.3g}"
    return verdict


def _session(path: Path) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    # x86 without VNNI overflows in U8S8 products: that would be this machine's fault.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _unusable(path: Path) -> str:
    """Why no runtime opens it; empty where one does."""
    foreign = _foreign(path)
    if foreign:
        return f"left in the graph: {foreign}"
    try:
        _session(path)
    except Exception as error:
        return f"onnxruntime: {first_line(error)}"
    return ""


def _foreign(path: Path) -> str:
    """Operators that ONNX does not have: `Erfc ×4, …`."""
    proto = onnx.load(path, load_external_data=False)
    functions = {(f.domain, f.name) for f in proto.functions}
    counts: Counter[str] = Counter()
    graphs = [proto.graph]
    for graph in graphs:
        for node in graph.node:
            graphs += [a.g for a in node.attribute if a.HasField("g")]
            known = node.domain in _DOMAINS and (
                node.domain == "com.microsoft" or onnx.defs.has(node.op_type, node.domain)
            )
            if not known and (node.domain, node.op_type) not in functions:
                counts[node.op_type] += 1
    return ", ".join(f"{name} ×{n}" for name, n in sorted(counts.items()))


def _given(inputs: Sequence[Any], feed: Tensors, model: Framework) -> tuple[dict[str, Any], bool]:
    """The feed under the candidate's names; whether those are the source's.

    tf2onnx's names end in `:0` or are new; then the place decides.
    """
    fixed = {n: x for n, x in model.fixed.items()}
    asked = [i.name for i in inputs if i.name not in fixed]
    given = {i.name: fixed[i.name] for i in inputs if i.name in fixed}
    if set(asked) <= set(feed):
        return given | {n: feed[n] for n in asked}, True
    short = {n.removesuffix(":0"): n for n in asked}
    if set(short) == {n.removesuffix(":0") for n in feed}:
        return given | {short[n.removesuffix(":0")]: x for n, x in feed.items()}, False
    return given | dict(zip(asked, feed.values(), strict=True)), False


def _paired(
    came: Tensors, expected: Tensors, atol: float
) -> list[tuple[np.ndarray, np.ndarray]] | None:
    """Which output is which: by name, else in the order that fits best; None where no order fits."""
    if set(came) == set(expected):
        pairs = [(came[n], expected[n]) for n in expected]
        return pairs if all(a.shape == b.shape for a, b in pairs) else None
    right = list(expected.values())
    orders = [
        list(zip(left, right, strict=False))
        for left in itertools.islice(itertools.permutations(came.values()), 24)
        if len(left) == len(right)
        and all(a.shape == b.shape for a, b in zip(left, right, strict=True))
    ]
    if len(right) > _MOST_ORDERS:
        orders = orders[:1]
    return min(orders, key=lambda o: max(_excess(a, b, atol) for a, b in o), default=None)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    with np.errstate(invalid="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64))
    same = (a == b) | (_nan(a) & _nan(b))
    gap = np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))
    return float(gap.max(initial=0.0))


def _excess(a: np.ndarray, b: np.ndarray, atol: float) -> float:
    """The largest |a − b| as a share of what is allowed there."""
    allowed = atol + RTOL * np.abs(np.where(_nan(b), 0.0, b.astype(np.float64)))
    with np.errstate(invalid="ignore"):
        gap = np.abs(a.astype(np.float64) - b.astype(np.float64)) / allowed
    same = (a == b) | (_nan(a) & _nan(b))
    gap = np.where(same, 0.0, np.where(np.isfinite(gap), gap, np.inf))
    return float(gap.max(initial=0.0))


def _nan(x: np.ndarray) -> np.ndarray:
    return np.isnan(x) if x.dtype.kind == "f" else np.zeros(x.shape, bool)


def _finite(x: float) -> float | None:
    return x if np.isfinite(x) else None


def main() -> None:
    """Judge what the command line names."""
    name, report, *pairs = sys.argv[1:]
    (entry,) = [e for e in read_entries() if e.name == name]
    candidates = {k: Path(v) for k, _, v in (p.partition("=") for p in pairs)}
    Path(report).write_text(json.dumps(judge(entry, candidates)), encoding="utf-8")


if __name__ == "__main__":
    main()
