"""Which engine of a target's kind this machine has to time candidates on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgepack.choose.candidate import Candidate
from edgepack.choose.choice import Race
from edgepack.choose.race import Timing, integers_are_quick, race
from edgepack.choose.race_web import find_web_engine, race_web
from edgepack.errors import EnvironmentMissing
from edgepack.passes.plan import Plan
from edgepack.prove.apart import require_here
from edgepack.prove.engine import Tensors


@dataclass(frozen=True, kw_only=True)
class Timekeeper:
    """How candidates are timed.

    Attributes:
        race: None: not at all.
        why_not: what is missing for it and how to get it; empty where there is nothing to time, or nothing on the build machine is like
            the device.
    """

    race: Race | None = None
    why_not: str = ""


def runnable_here(plans: Sequence[Plan]) -> tuple[tuple[Plan, ...], str]:
    """The plans whose answers this machine can give, and what is missing for the others: nothing is shipped that was not asked here.

    Raises:
        EnvironmentMissing: it can give none.
    """
    kept, missing = [], []
    for plan in plans:
        try:
            if plan.engine is not None:
                require_here(plan.engine)
        except EnvironmentMissing as error:
            missing.append((plan, error))
        else:
            kept.append(plan)
    if not kept:
        raise missing[0][1]
    reasons: dict[str, list[str]] = {}
    for plan, lack in missing:
        reasons.setdefault(f"{lack.cause}; to have it: {lack.fix}", []).append(plan.way)
    return tuple(kept), "; ".join(f"left out {', '.join(ws)}: {why}" for why, ws in reasons.items())


def timekeeper(plans: Sequence[Plan], feed: Tensors) -> Timekeeper:
    """The one for `plans`, all of one target; models are timed on `feed`."""
    profile = plans[0].profile
    engine = profile.auto.timed_with
    if len(plans) < 2 or engine is None:
        return Timekeeper()
    if engine == "onnxruntime":
        if any(p.precision == "int8" for p in plans) and not integers_are_quick():
            said = (
                "this CPU multiplies int8 no quicker than float32, which says nothing of the device"
            )
            return Timekeeper(why_not=said)

        def here(candidates: Mapping[str, Candidate]) -> Mapping[str, Timing]:
            graphs = {name: c.graph for name, c in candidates.items()}
            return race(graphs, feed, {name: c.plan.engine for name, c in candidates.items()})

        return Timekeeper(race=here)
    try:
        web = find_web_engine(profile.runtime)
    except EnvironmentMissing as error:
        return Timekeeper(why_not=f"{error.cause}; to time them here: {error.fix}")

    def under_node(candidates: Mapping[str, Candidate]) -> Mapping[str, Timing]:
        models = {name: c.model for name, c in candidates.items()}
        return race_web(models, feed, profile.runtime, web)

    return Timekeeper(race=under_node)
