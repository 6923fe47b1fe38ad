"""A chooser for one target, from what the user gave."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from edgepack.artifact import ModelFile, TensorSpec
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose.candidate import last_graph
from edgepack.choose.choice import Chooser, Prefer
from edgepack.choose.engines import timekeeper
from edgepack.choose.gate import MAX_DISAGREEMENT, MAX_DROP, Gate
from edgepack.choose.ranking import Ranking
from edgepack.legality.require import require_legal
from edgepack.passes.plan import Plan
from edgepack.prove.accuracy import metric
from edgepack.prove.engine import Tensors
from edgepack.samples.dataset import Samples
from edgepack.stages import Stage, StageRunner

#: Of calibration data without labels, the gate looks at this many at most.
_MOST_SAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What the user said of accuracy and of what counts besides.

    Attributes:
        evaluation: samples with labels, for `metric`.
        max_drop: in the metric's unit; None: what is usual.
    """

    evaluation: Samples | None = None
    metric: str | None = None
    max_drop: float | None = None
    prefer: Prefer = "speed"


def make_gate(
    wishes: Wishes, calibration: Samples | None, specs: Sequence[TensorSpec]
) -> Gate | None:
    """The gate that the data allow; None without any.

    Args: specs: the inputs at the sizes that the model is built for.
    """
    labelled = wishes.evaluation
    if labelled is not None:

        def with_labels() -> Iterator[tuple[Tensors, NDArray[Any] | None]]:
            return iter(labelled.labelled(specs))

        limit = MAX_DROP if wishes.max_drop is None else wishes.max_drop
        return Gate(
            metric=metric(wishes.metric or "top1"),
            max_drop=limit,
            feeds=with_labels,
            samples=len(labelled),
            origin="evaluation data",
            digest=labelled.digest,
        )
    if calibration is None:
        return None
    some = calibration.spread(_MOST_SAMPLES)

    def without_labels() -> Iterator[tuple[Tensors, NDArray[Any] | None]]:
        return ((feed, None) for feed in some.feeds(specs))

    return Gate(
        metric=None,
        max_drop=MAX_DISAGREEMENT if wishes.max_drop is None else wishes.max_drop,
        feeds=without_labels,
        samples=len(some),
        origin=origin_of(calibration),
        digest=some.digest,
    )


def origin_of(calibration: Samples | None) -> str:
    """What golden inputs and accuracy without labels come from, for people; file names are not part of a bundle."""
    if calibration is None:
        return "seeded noise"
    return "random calibration data" if calibration.random else "calibration data"


def make_chooser(
    *,
    plans: Sequence[Plan],
    converted: ModelFile,
    runner: StageRunner,
    calibrator: Calibrator | None,
    gate: Gate | None,
    wishes: Wishes,
    feeds: Sequence[Tensors],
    say: Callable[[str], None],
) -> Chooser:
    """A chooser among `plans`, all of one target.

    Args:
        feeds: golden inputs; layers are ranked and models timed on them.
    """
    trying = ""

    def tell(text: str) -> None:
        nonlocal trying
        trying = text
        say(text)

    def run(plan: Plan) -> tuple[Sequence[Stage], Sequence[str]]:
        stages = runner.run(plan, converted, lambda step: say(f"{trying} › {step}"))
        warnings = require_legal(last_graph(stages), plan.profile, plan.precision)
        return stages, [str(w) for w in warnings]

    ranking = Ranking(
        runner=runner, converted=converted, calibrator=calibrator, feeds=feeds, say=say
    )
    keeper = timekeeper(plans, feeds[0])
    return Chooser(
        run=run,
        rank=ranking.order,
        cost=ranking.cost,
        gate=gate,
        race=keeper.race,
        untimed=keeper.why_not,
        prefer=wishes.prefer,
        say=tell,
    )
