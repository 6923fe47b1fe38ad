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
import time
from collections.abc import Sequence
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
    seconds: float

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
        f"{'target':16} {'float':>6} {'INT8':>6} {'drop':>6} {'tried':>5} {'kept':>4} {'INT8':>6} {'s':>5}"
    )
    good = True
    for profile in profiles:
        try:
            row = measured(model, pictures, profile)
        except EdgepackError as error:
            good = False
            print(f"{profile.name:16} {error.cause}", flush=True)
            continue
        good &= row.reaches
        mark = "" if row.reaches else "  MISSED"
        print(
            f"{row.target:16} {row.reference:6.2f} {row.score:6.2f} {row.drop:6.2f} {row.attempts:5} {row.kept:4} "
            f"{row.share:6.1%} {row.seconds:5.1f} {row.how}{mark}",
            flush=True,
        )
    return good


def measured(model: Path, pictures: Pictures, profile: TargetProfile) -> Row:
    """Build the INT8 bundle and read from it what it says of itself."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        (result,) = edgepack.build(
            model,
            targets=[profile],
            output_dir=folder,
            precision="int8",
            calibration=pictures.calibration.x,
            evaluation={"image": pictures.evaluation.x, "labels": pictures.evaluation.y},
            metric="top1",
            max_drop=MAX_DROP,
        )
        seconds = time.perf_counter() - start
        share = mac_share(result.bundle, profile)
    tried = result.accuracy.tried
    # A search ends with what it chose.
    chosen = [a for a in tried if a.holds][-1]
    assert chosen.score is not None
    assert chosen.drop is not None
    options = {k: v for k, v in chosen.options.items() if k != "float_nodes"}
    return Row(
        target=profile.name,
        reference=chosen.score + chosen.drop,
        score=chosen.score,
        attempts=len(tried),
        kept=len(chosen.options.get("float_nodes", ())),
        how=", ".join(f"{k} {v}" for k, v in options.items()),
        share=share,
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
