"""What INT8 costs on every target: top-1 on digits and on photographs, four kinds of nets; and FER against its makers' own INT8.

    python -m tests.benchmarks.accuracy                       # everything; nets are trained once and kept in the test cache
    python -m tests.benchmarks.accuracy digits --net transformer -t android -t jetson-orin
    python -m tests.benchmarks.accuracy fer

Each row is one `edgepack build --precision int8 --metric top1 --max-drop 0.5`, calibrated on pictures without labels and held against
others with labels. `INT8` is the share of multiply-accumulates that the file on the device does in 8-bit integers. Exits with 1 if a row
misses the bar: a drop of 0.5 point at most, with 90 % of the multiply-accumulates.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import edgepack
from edgepack.errors import EdgepackError
from edgepack.targets import TargetProfile, list_targets, load_target
from tests.benchmarks import fer
from tests.benchmarks.pictures import SETS, Pictures
from tests.benchmarks.share import mac_share
from tests.benchmarks.training import trained

MAX_DROP, LEAST_SHARE = 0.5, 0.9
_FER = "fer"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One net for one target.

    Attributes:
        reference, score: float and INT8 top-1, points of 100.
        attempts: ways that were built and measured.
        kept: nodes in float; how: the options that the search ended with.
        share: of the multiply-accumulates, in 8-bit integers.
    """

    target: str
    reference: float
    score: float
    attempts: int
    kept: int
    how: str
    share: float

    @property
    def drop(self) -> float:
        """Points lost; negative where INT8 is better."""
        return self.reference - self.score

    @property
    def reaches(self) -> bool:
        """The bar."""
        return self.drop <= MAX_DROP and self.share >= LEAST_SHARE


def main() -> None:
    """Print a table for each set of pictures."""
    from tests.benchmarks.nets import NETS

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="*", help=f"{', '.join(SETS)}, {_FER}; all without")
    parser.add_argument("--net", action="append", choices=list(NETS), help="all without")
    parser.add_argument("-t", "--target", action="append", help="all that take INT8 without")
    arguments = parser.parse_args()
    asked = [load_target(t) for t in arguments.target or ()]
    profiles = asked or [p for p in list_targets() if "int8" in p.precisions]
    reached = True
    for name, make in SETS.items():
        if arguments.sets and name not in arguments.sets:
            continue
        pictures = make()
        for net in arguments.net or NETS:
            reached &= _table(name, net, pictures, profiles)
    if not arguments.sets or _FER in arguments.sets:
        reached &= fer.table(profiles)
    sys.exit(not reached)


def _table(name: str, net: str, pictures: Pictures, profiles: Sequence[TargetProfile]) -> bool:
    model = trained(name, net, pictures)
    sizes = [len(p.y) for p in (pictures.train, pictures.calibration, pictures.evaluation)]
    print(
        f"\n{name}, {net} (trained on {sizes[0]}, calibrated on {sizes[1]}, measured on {sizes[2]})"
    )
    print(
        f"{'target':16} {'float':>6} {'INT8':>6} {'drop':>6} {'tried':>5} {'kept':>4} {'INT8':>6}"
    )
    good = True
    for profile, row in _rows(model, pictures, profiles):
        if isinstance(row, EdgepackError):
            good = False
            print(f"{profile.name:16} {row.cause}", flush=True)
            continue
        good &= row.reaches
        mark = "" if row.reaches else "  MISSED"
        print(
            f"{row.target:16} {row.reference:6.2f} {row.score:6.2f} {row.drop:6.2f} {row.attempts:5} {row.kept:4} "
            f"{row.share:6.1%} {row.how}{mark}",
            flush=True,
        )
    return good


def _rows(
    model: Path, pictures: Pictures, profiles: Sequence[TargetProfile]
) -> Iterator[tuple[TargetProfile, Row | EdgepackError]]:
    """All targets in one build, in which they share what is equal; where it fails one by one, to tell which."""
    try:
        yield from zip(profiles, measured(model, pictures, profiles), strict=True)
    except EdgepackError as error:
        if len(profiles) == 1:
            yield profiles[0], error
            return
        for profile in profiles:
            yield from _rows(model, pictures, [profile])


def measured(model: Path, pictures: Pictures, profiles: Sequence[TargetProfile]) -> list[Row]:
    """Build the INT8 bundles and read from them what they say of themselves."""
    with tempfile.TemporaryDirectory() as folder:
        results = edgepack.build(
            model,
            targets=profiles,
            output_dir=folder,
            precision="int8",
            calibration=pictures.calibration.x,
            evaluation={"image": pictures.evaluation.x, "labels": pictures.evaluation.y},
            metric="top1",
            max_drop=MAX_DROP,
        )
        return [_row(r, p) for r, p in zip(results, profiles, strict=True)]


def _row(result: edgepack.BuildResult, profile: TargetProfile) -> Row:
    chosen = next(a for a in result.accuracy.tried if a.shipped)
    assert chosen.score is not None
    assert chosen.drop is not None
    options = {k: v for k, v in chosen.options.items() if k != "float_nodes"}
    return Row(
        target=profile.name,
        reference=chosen.score + chosen.drop,
        score=chosen.score,
        attempts=len(result.accuracy.tried),
        kept=len(chosen.options.get("float_nodes", ())),
        how=", ".join(f"{k} {v}" for k, v in options.items()),
        share=mac_share(result.bundle, profile),
    )


if __name__ == "__main__":
    main()
