"""One model measured both ways, and what came of it; kept in the test cache until something it depends on changes."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.zoo import convert
from tests.zoo.build import ENVIRONMENT, digest, model_path, ready
from tests.zoo.entries import Entry
from tests.zoo.measure import Run, measure
from tests.zoo.packages import CACHE, ROOT, PackageError

_TIMEOUT_S = 900.0
_PACKAGES = ("tensorflow-cpu", "tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "numpy")
_SIDES = ("plain", "edgepack")
#: A traceback's last line: `ValueError: …`, `tensorflow.python….InvalidArgumentError: …`.
_RAISED = re.compile(r"^([\w.]+(?:Error|Exception|Warning|Interrupt|Exit|Fault)):? ?(.*)$")


def versions() -> dict[str, str]:
    """What the results depend on besides the code."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except ModuleNotFoundError:
            continue
    return found


def source_digest() -> str:
    """sha256 of edgepack's code."""
    whole = hashlib.sha256()
    for file in sorted((ROOT / "edgepack").rglob("*.py")):
        whole.update(file.read_bytes())
    return whole.hexdigest()


class Ledger:
    """Results by entry, a JSON file each."""

    def __init__(self, *, fresh: bool) -> None:
        """Args: fresh: measure everything again."""
        self._folder = CACHE / "results"
        self._fresh = fresh
        own = json.dumps(versions(), sort_keys=True)
        self._keys = {"plain": own, "edgepack": own + source_digest()}

    def load(self, entry: Entry) -> dict[str, Any]:
        """What is known of the entry and still holds: `plain`, `edgepack`, both or nothing."""
        path = self._folder / f"{entry.name}.json"
        if self._fresh or not path.exists():
            return {}
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {s: kept[s] for s in _SIDES if kept.get(s, {}).get("key") == self._key(entry, s)}

    def save(self, entry: Entry, record: dict[str, Any]) -> None:
        """Keep it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for side in set(_SIDES) & set(record):
            record[side]["key"] = self._key(entry, side)
        text = json.dumps(record, ensure_ascii=False) + "\n"
        (self._folder / f"{entry.name}.json").write_text(text, encoding="utf-8")

    def _key(self, entry: Entry, side: str) -> str:
        return hashlib.sha256((digest(entry) + self._keys[side]).encode()).hexdigest()


def measured(entry: Entry, ledger: Ledger, say: Callable[[str], None]) -> dict[str, Any]:
    """The entry's record: what plain tf2onnx made of it, and what edgepack did.

    Each side has `status`, `why`, `seconds`, `peak_bytes`, and `worst`, `of_bound` where answers were compared.
    `status`: ok, crash, broken (an ONNX file that is wrong), none (tf2onnx reads no such format), refused, bug.
    """
    record = ledger.load(entry)
    missing = [s for s in _SIDES if s not in record]
    if not missing:
        return record
    try:
        ready([entry])
    except (PackageError, RuntimeError) as error:
        say(f"{entry.name}: {error}")
        return record | {s: {"status": "absent", "why": str(error)} for s in missing}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for side in missing:
            say(f"{entry.name}: {side}")
            record[side] = (_plain if side == "plain" else _ours)(entry, folder)
        candidates = {s: folder / f"{s}.onnx" for s in missing if record[s]["status"] == "ok"}
        if candidates:
            say(f"{entry.name}: judge")
            _judge(entry, candidates, folder, record)
    ledger.save(entry, record)
    return record


def _plain(entry: Entry, folder: Path) -> dict[str, Any]:
    output = folder / "plain.onnx"
    command = convert.plain(entry, model_path(entry), output)
    if command is None:
        return {"status": "none", "why": "tf2onnx reads no ONNX"}
    run = measure(command, ENVIRONMENT, timeout_s=_TIMEOUT_S)
    if output.exists() and run.returncode == 0:
        return _cost(run) | {"status": "ok", "why": ""}
    return _cost(run) | {"status": "crash", "why": _last_words(run)}


def _ours(entry: Entry, folder: Path) -> dict[str, Any]:
    report = folder / "edgepack.json"
    command = convert.ours(entry, model_path(entry), folder / "edgepack.onnx", report)
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    run = measure(command, environment, timeout_s=_TIMEOUT_S)
    if not report.exists():
        return _cost(run) | {"status": "bug", "why": _last_words(run)}
    said = json.loads(report.read_text(encoding="utf-8"))
    if "bug" in said:
        return _cost(run) | {"status": "bug", "why": said["bug"], "trace": said["trace"]}
    if "error" in said:
        error = said["error"]
        return _cost(run) | {"status": "refused", "why": error["cause"], "fix": error["fix"]}
    parity = said["result"]["parity"]
    worst = max((p["max_abs"] or 0.0 for p in parity), default=0.0)
    return _cost(run) | {"status": "ok", "why": "", "worst": worst, "own_parity": parity}


def _judge(entry: Entry, candidates: dict[str, Path], folder: Path, record: dict[str, Any]) -> None:
    report = folder / "judge.json"
    pairs = [f"{s}={p}" for s, p in candidates.items()]
    command = [sys.executable, "-m", "tests.zoo.judge", entry.name, str(report), *pairs]
    environment = {**ENVIRONMENT, "PYTHONPATH": str(ROOT)}
    run = measure(command, environment, timeout_s=_TIMEOUT_S)
    verdicts: dict[str, Any] = (
        json.loads(report.read_text(encoding="utf-8"))
        if report.exists()
        else {"source": _last_words(run)}
    )
    for side in candidates:
        one = record[side]
        verdict = verdicts.get(side, {})
        if "source" in verdicts:
            # Only edgepack's own proof stands then.
            one["unjudged"] = verdicts["source"]
        else:
            one["worst"] = max(verdict.get("worst") or 0.0, one.get("worst", 0.0))
        one |= {k: verdict[k] for k in ("of_bound", "named") if k in verdict}
        if "wrong" in verdict:
            one |= {"status": "broken", "why": verdict["wrong"]}


def _cost(run: Run) -> dict[str, Any]:
    return {"seconds": round(run.seconds, 2), "peak_bytes": run.peak_bytes}


def _last_words(run: Run) -> str:
    """The exception a process ended with, or the end of what it said."""
    if run.returncode is None:
        return f"still running after {_TIMEOUT_S:.0f} s"
    lines = [line.rstrip() for line in run.stderr.splitlines() if line.strip()]
    for line in reversed(lines):
        raised = _RAISED.match(line)
        if raised:
            return f"{raised[1].rpartition('.')[2]}: {raised[2]}".rstrip(": ")
    if run.returncode < 0:
        return f"signal {-run.returncode}"
    return lines[-1] if lines else f"exit {run.returncode}"
