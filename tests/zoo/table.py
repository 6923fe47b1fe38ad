"""The zoo's table: one line a model, and what it comes to."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from tests.zoo.entries import Entry
from tests.zoo.record import versions

#: edgepack may take this many times plain tf2onnx's seconds and memory.
COST_BAR = 1.3
Records = Mapping[str, Mapping[str, Any]]
_HEAD = (
    "model",
    "format",
    "plain tf2onnx",
    "edgepack",
    "max &#124;a−b&#124;",
    "seconds",
    "peak memory, MB",
)
_LONGEST_WHY = 90


def as_expected(entry: Entry, record: Mapping[str, Any]) -> bool:
    """edgepack converted it within the bar, or refused it with the words that the list asks for."""
    side = record["edgepack"]
    if entry.refused:
        return side["status"] == "refused" and entry.refused.lower() in side["why"].lower()
    return bool(side["status"] == "ok")


def ratios(entries: Sequence[Entry], records: Records, what: str) -> list[tuple[float, str]]:
    """edgepack's seconds or bytes over plain tf2onnx's, where both work, in order."""
    found = []
    for entry in entries:
        plain, ours = records[entry.name]["plain"], records[entry.name]["edgepack"]
        if plain["status"] == "ok" and ours["status"] == "ok":
            found.append((ours[what] / plain[what], entry.name))
    return sorted(found)


def summary(entries: Sequence[Entry], records: Records) -> list[str]:
    """What the table comes to, a sentence each."""
    entries = [e for e in entries if e.name in records]
    judged = [e for e in entries if records[e.name]["plain"]["status"] != "none"]
    plain = Counter(records[e.name]["plain"]["status"] for e in judged)
    ours = Counter(records[e.name]["edgepack"]["status"] for e in entries)
    right = sum(as_expected(e, records[e.name]) for e in entries)
    refusals = sum(bool(e.refused) for e in entries)
    lines = [
        f"{len(entries)} models: edgepack converts {ours['ok']} within the bar and refuses {ours['refused']} "
        f"({refusals} should be); {right} as expected.",
        f"Plain tf2onnx, on the {len(judged)} that are not ONNX already: {plain['ok']} right, "
        f"{plain['crash']} crash, {plain['broken']} silently broken.",
    ]
    for what, word in (("seconds", "time"), ("peak_bytes", "peak memory")):
        found = ratios(entries, records, what)
        if found:
            over = sum(r > COST_BAR for r, _ in found)
            lines.append(
                f"Where both work ({len(found)}), edgepack's {word} with its proof is {statistics.median(r for r, _ in found):.2f} × "
                f"plain's in the median, {found[-1][0]:.2f} × at worst ({found[-1][1]}); {over} are above {COST_BAR} ×."
            )
    return lines


def markdown(entries: Sequence[Entry], records: Records) -> str:
    """The README's section: the summary, and the table folded away."""
    entries = [e for e in entries if e.name in records]
    rows = ["| " + " | ".join(_HEAD) + " |", "|---" * len(_HEAD) + "|"]
    family = ""
    for entry in entries:
        if entry.family != family:
            family = entry.family
            rows.append(f"| **{family}** |" + " |" * (len(_HEAD) - 1))
        rows.append("| " + " | ".join(_cells(entry, records[entry.name], escape=True)) + " |")
    about = ", ".join(f"{k} {v}" for k, v in versions().items())
    return "\n".join(
        [
            *summary(entries, records),
            "",
            f"Seconds and memory are plain tf2onnx / edgepack, each a whole process from start to end, on {about}; edgepack's",
            "include the proof: the source's and onnxruntime's answers to three golden inputs. Measured with `python -m tests.zoo --write-readme`.",
            "",
            "<details><summary>All models</summary>",
            "",
            *rows,
            "",
            "</details>",
        ]
    )


def line(entry: Entry, record: Mapping[str, Any]) -> str:
    """One model's line for a terminal."""
    mark = "  " if as_expected(entry, record) else "! "
    name, form, *rest = _cells(entry, record, escape=False)
    return f"{mark}{name:34} {form:16} " + " · ".join(rest)


def _cells(entry: Entry, record: Mapping[str, Any], *, escape: bool) -> list[str]:
    plain, ours = record["plain"], record["edgepack"]
    cells = [
        entry.name,
        entry.kind,
        _outcome(plain),
        _outcome(ours),
        f"{ours['worst']:.1e}" if ours["status"] == "ok" else "–",
        f"{_number(plain, 'seconds', 1, 1)} / {_number(ours, 'seconds', 1, 1)}",
        f"{_number(plain, 'peak_bytes', 1e6, 0)} / {_number(ours, 'peak_bytes', 1e6, 0)}",
    ]
    return [c.replace("|", "&#124;").replace("<", "&lt;") for c in cells] if escape else cells


def _outcome(side: Mapping[str, Any]) -> str:
    if side["status"] == "none":
        return "–"
    if side["status"] == "ok":
        return "ok, unjudged" if "unjudged" in side and "own_parity" not in side else "ok"
    why = " ".join(side["why"].split())
    short = why if len(why) <= _LONGEST_WHY else why[: _LONGEST_WHY - 1] + "…"
    return f"{side['status']}: {short}"


def _number(side: Mapping[str, Any], key: str, unit: float, digits: int) -> str:
    return f"{side[key] / unit:.{digits}f}" if key in side else "–"
