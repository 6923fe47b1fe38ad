"""The zoo: every model of the list through plain tf2onnx and through edgepack, side by side.

    python -m tests.zoo                         all of them; what is known already is not measured again
    python -m tests.zoo --only 'mobile*' tflite these, by name, format or family
    python -m tests.zoo --fast                  the subset that CI runs
    python -m tests.zoo --fresh --write-readme  measure all again, and put the table into the README.md here

Each side runs in a process of its own, TensorFlow's start included; answers are compared in a third. Exit 1: a model did
not do what the list expects.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.zoo.build import ready
from tests.zoo.entries import Entry, chosen, read_entries
from tests.zoo.packages import PackageError
from tests.zoo.record import Ledger, measured, versions
from tests.zoo.table import as_expected, line, markdown, summary

_MARKERS = ("<!-- zoo -->", "<!-- /zoo -->")


def main() -> None:
    """Measure, print, write."""
    arguments = _arguments()
    entries = chosen(read_entries(), arguments.only, fast=arguments.fast)
    if arguments.format:
        entries = [e for e in entries if e.kind in arguments.format or e.format in arguments.format]
    if arguments.list:
        print("\n".join(_listed(e) for e in entries))
        return
    records = _measured(entries, Ledger(fresh=arguments.fresh), arguments.jobs)
    print("\n".join(["", *summary(entries, records)]))
    if arguments.json:
        data = {"versions": versions(), "summary": summary(entries, records), "models": records}
        arguments.json.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
    if arguments.write_readme:
        _write_readme(markdown(entries, records))
    sys.exit(0 if all(as_expected(e, records[e.name]) for e in entries) else 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.zoo",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="PATTERN", help="name, format or family"
    )
    parser.add_argument(
        "--format", nargs="+", default=[], help="keras, savedmodel, 'tflite int8' …"
    )
    parser.add_argument("--fast", action="store_true", help="the subset that CI runs")
    parser.add_argument("--fresh", action="store_true", help="measure again what is known already")
    parser.add_argument(
        "--jobs", type=int, default=1, help="models at a time; more than 1 spoils the seconds"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all results as data")
    parser.add_argument(
        "--write-readme", action="store_true", help="between the zoo markers of tests/zoo/README.md"
    )
    parser.add_argument("--list", action="store_true", help="print the list and stop")
    return parser.parse_args()


def _listed(entry: Entry) -> str:
    origin = entry.package.requirement if entry.package else entry.keras or entry.writer
    notes = [
        n for n in ("fast" * entry.fast, f"refused: {entry.refused}" * bool(entry.refused)) if n
    ]
    return f"{entry.name:34} {entry.kind:16} {origin} {'; '.join(notes)}".rstrip()


def _measured(entries: list[Entry], ledger: Ledger, jobs: int) -> dict[str, dict[str, Any]]:
    try:
        # All at once: TensorFlow starts once for them.
        ready(entries)
    except (PackageError, RuntimeError) as error:
        _progress(str(error))
    records = {}
    with ThreadPoolExecutor(jobs) as pool:
        for entry, record in zip(
            entries, pool.map(lambda e: measured(e, ledger, _progress), entries), strict=True
        ):
            records[entry.name] = record
            print(line(entry, record), flush=True)
    return records


def _progress(text: str) -> None:
    print(f"  … {text}", file=sys.stderr, flush=True)


def _write_readme(section: str) -> None:
    readme = Path(__file__).with_name("README.md")
    text = readme.read_text(encoding="utf-8")
    begin, end = _MARKERS
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        sys.exit(f"{readme}: the markers {begin} and {end} are not there")
    readme.write_text(f"{before}{begin}\n{section}\n{end}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
