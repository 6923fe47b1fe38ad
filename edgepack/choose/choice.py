"""The precision that one target gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from edgepack.choose.candidate import Candidate, float_stage, with_options
from edgepack.choose.gate import Gate, Measured
from edgepack.choose.race import Timing
from edgepack.choose.search import Search
from edgepack.errors import AccuracyError, EdgepackError, LegalityError, ParityError, StepError
from edgepack.passes.plan import Plan
from edgepack.stages import Stage

Prefer = Literal["speed", "size", "accuracy"]
#: A candidate is quicker only if it takes at most this share of the other's time: below that, timings are noise.
_QUICKER = 0.9
#: A candidate with layers in float is worth their loss only if it takes at most this share of the bytes of what loses less.
_SMALLER = 0.9
#: Milliseconds below which handing a model its input costs as much as running it: no reason to leave the profile's preference.
_QUICK_ENOUGH_MS = 0.2

#: Share of a model's work that a search may leave in float for its integers to be worth it, where nothing can be timed: with half the
#: work in float32, integers at four times its speed leave 5/8 of the time, and float16 at twice its speed half.
_MOST_FLOAT = 0.5

#: Builds a plan's stages; gives what the device's rules warn of besides.
Run = Callable[[Plan], tuple[Sequence[Stage], Sequence[str]]]
Rank = Callable[[Candidate], Sequence[str]]
#: Times several models side by side, on an engine of the target's kind.
Race = Callable[[Mapping[str, Candidate]], Mapping[str, Timing]]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What was chosen, why, and all that was tried for it.

    Attributes:
        trail: every candidate in the order tried; `chosen` is among them.
        timings: by way to a precision, where the target's kind of engine could be timed here.
        untimed: why it could not, where it could have been.
    """

    chosen: Candidate
    because: str
    trail: tuple[Candidate, ...]
    timings: Mapping[str, Timing]
    untimed: str = ""


@dataclass(kw_only=True)
class Chooser:
    """Builds what is legal on a target, holds each against the gate, and takes the one that is worth it.

    Attributes:
        gate: None: there is nothing to measure with; parity on the golden inputs is all that is known.
        race: None: this machine has no engine of the target's kind.
        untimed: what is missing for a race.
        say: is told what is being tried.
        mostly_float: ways to a precision whose best has more than half of its work in float.
    """

    run: Run
    rank: Rank
    cost: Callable[[Candidate], Mapping[str, int]]
    gate: Gate | None
    race: Race | None
    prefer: Prefer
    say: Callable[[str], None]
    untimed: str = ""
    trail: list[Candidate] = field(default_factory=list)
    mostly_float: set[str] = field(default_factory=set)

    def choose(self, plans: Sequence[Plan]) -> Choice:
        """The best of `plans`, which are in the profile's order of preference.

        Raises:
            AccuracyError: none is as good as it has to be. LegalityError, ParityError, StepError: none can be built.
        """
        only = len(plans) == 1
        held: list[Candidate] = []
        for plan in plans:
            candidate = self._best_of(plan, held)
            if candidate.holds:
                held.append(candidate)
                if self._needs_no_more() and plan.way not in self.mostly_float:
                    break
        if not held:
            raise self._refusal(plans)
        timings: Mapping[str, Timing] = {}
        if self.prefer == "speed" and self.race is not None and len(held) > 1:
            timings = self._timed(held)
        chosen, because = self._pick(held, timings, only=only)
        return Choice(
            chosen=chosen,
            because=because,
            trail=tuple(self.trail),
            timings=timings,
            untimed=self.untimed if self.prefer == "speed" and not only else "",
        )

    def _timed(self, candidates: Sequence[Candidate]) -> Mapping[str, Timing]:
        assert self.race is not None
        self.say("race")
        return self.race({c.plan.way: c for c in candidates})

    def _needs_no_more(self) -> bool:
        """The profile's first that holds is taken unread where nothing here could tell a later one better."""
        return self.prefer == "speed" and self.race is None

    def _best_of(self, plan: Plan, held: Sequence[Candidate]) -> Candidate:
        first = self._attempt(plan, {})
        # What answers too far off is as much a case for other ranges as what loses too much; what cannot be built at all is none.
        built = bool(first.stages) or isinstance(first.error, ParityError)
        final = first.holds or not built or not plan.spec.variants
        if final or not self._worth_a_search(first, held):
            self.trail.append(first)
            return first
        search = Search(
            attempt=lambda options: self._attempt(plan, options),
            rank=self.rank,
            cost=self.cost(first),
        )
        best = search.run(first, [v.root for v in plan.spec.variants])
        self.trail.extend(search.trail)
        if search.float_share(best) > _MOST_FLOAT:
            self.mostly_float.add(plan.way)
        return best

    def _worth_a_search(self, first: Candidate, held: Sequence[Candidate]) -> bool:
        """Whether a candidate that loses too much would be chosen if it did not: layers in float make it no quicker."""
        if self.prefer != "speed" or self.race is None or not held or not first.stages:
            return True
        timings = self._timed([held[0], first])
        best, other = (timings[c.plan.way] for c in (held[0], first))
        return is_quicker(other, best)

    def _attempt(self, plan: Plan, options: Mapping[str, Any]) -> Candidate:
        self.say(_described(plan.way, options))
        plan = with_options(plan, options)
        try:
            stages, warnings = self.run(plan)
        except (LegalityError, ParityError, StepError) as error:
            return Candidate(plan=plan, options=options, stages=(), measured=None, error=error)
        measured = None
        if self.gate is not None and plan.precision != "fp32":
            float_model = float_stage(plan, stages).result.model
            measured = self.gate.measured(stages[-1].result.model, float_model, plan.engine)
        return Candidate(
            plan=plan, options=options, stages=stages, measured=measured, warnings=warnings
        )

    def _pick(
        self, held: Sequence[Candidate], timings: Mapping[str, Timing], *, only: bool
    ) -> tuple[Candidate, str]:
        if only:
            return held[0], _reason(held[0])
        if len(held) == 1:
            return held[0], self._for_want_of(held[0])
        if self.prefer == "size":
            chosen = min(held, key=lambda c: c.model.size_bytes)
            return chosen, "the smallest of those that are accurate enough"
        if self.prefer == "accuracy":
            exact = [c for c in held if not c.plan.loses]
            return min(exact or held, key=_drop), "the most accurate"
        if not timings:
            place = next((i for i, c in enumerate(held) if c.plan.way not in self.mostly_float), 0)
            passed = [
                f"{c.plan.way} holds only with most of its work in float" for c in held[:place]
            ]
            return held[place], "; ".join([*passed, _reason(held[place])])
        chosen = held[0]
        for other in held[1:]:
            if is_quicker(timings[other.plan.way], timings[chosen.plan.way]):
                chosen = other
        better = _instead_of_layers(chosen, held, timings)
        if better is not None:
            kept = _layers(chosen)
            return better, f"as quick and as small as {chosen.plan.way} with {kept}, and loses less"
        if chosen is held[0]:
            return chosen, f"{_reason(chosen)}; {_stays(timings[chosen.plan.way])}"
        return chosen, f"quicker than {held[0].plan.way}, timed side by side"

    def _for_want_of(self, candidate: Candidate) -> str:
        """The reason of the only one that holds: what comes before it in the profile's order and does not, and its own."""
        before = dict.fromkeys(c.plan.way for c in self.trail if not c.holds)
        before.pop(candidate.plan.way, None)
        return "; ".join([*(f"{way} does not hold" for way in before), _reason(candidate)])

    def _refusal(self, plans: Sequence[Plan]) -> EdgepackError:
        tried = [c for c in self.trail if c.measured is not None]
        if not tried or self.gate is None:
            failed = [c for c in self.trail if c.error is not None]
            # What stops a plan that changes nothing is wrong with the model, not with a precision.
            failed.sort(key=lambda c: c.plan.loses)
            assert failed[0].error is not None
            return failed[0].error
        best = min(tried, key=_drop)
        assert best.measured is not None
        measured, ways = best.measured, f"{len(tried)} {'way' if len(tried) == 1 else 'ways'} tried"
        where = f" ({measured.judged_by} of output {measured.output!r})" if measured.output else ""
        unit = f" {self.gate.unit}" if self.gate.unit else ""
        return AccuracyError(
            f"{plans[0].profile.name}: {best.plan.way} loses {measured.drop:.4g}{unit} of "
            f"{self.gate.name}{where} at best ({ways}), allowed {self.gate.max_drop:g}",
            _remedy(measured),
        )


def _remedy(measured: Measured) -> str:
    labels = "labels to measure with (--eval)"
    if measured.judged_by == "values":
        labels = (
            "labels (--eval DATA with --metric top1 where the output holds scores of classes: "
            "without, its numbers themselves are compared)"
        )
    return (
        f"give more representative --calibration data, {labels}, allow more with --max-drop, or use --precision auto, "
        "which falls back to a precision that holds"
    )


def is_quicker(other: Timing, best: Timing) -> bool:
    """Beyond doubt: in three quarters of the rounds it took less than the best, and in half of them by more than noise."""
    if best.median_ms < _QUICK_ENOUGH_MS:
        return False
    median, high = other.shares_of(best)
    return high < 1.0 and median <= _QUICKER


def _instead_of_layers(
    chosen: Candidate, held: Sequence[Candidate], timings: Mapping[str, Timing]
) -> Candidate | None:
    """What takes the place of a candidate that layers in float have left nothing of what it is preferred for: neither time nor bytes."""
    if not chosen.kept_float:
        return None
    for other in held:
        slower = is_quicker(timings[chosen.plan.way], timings[other.plan.way])
        larger = chosen.model.size_bytes < _SMALLER * other.model.size_bytes
        if not slower and not larger and _drop(other) < _drop(chosen):
            return other
    return None


def _layers(candidate: Candidate) -> str:
    count = len(candidate.kept_float)
    return f"{count} {'layer' if count == 1 else 'layers'} in float" if count else ""


def _reason(candidate: Candidate) -> str:
    """The profile's, which speaks of a whole recipe."""
    kept = _layers(candidate)
    return f"{candidate.plan.reason}{f', but for {kept}' if kept else ''}"


def _stays(timing: Timing) -> str:
    """Why nothing that was timed took the place of the profile's preference."""
    if timing.median_ms < _QUICK_ENOUGH_MS:
        return f"a run takes less than {_QUICK_ENOUGH_MS:g} ms, of which a quicker one would save little"
    return f"no other is quicker by more than {1 - _QUICKER:.0%}, timed side by side"


def _drop(candidate: Candidate) -> float:
    return candidate.measured.drop if candidate.measured else 0.0


def _described(precision: str, options: Mapping[str, Any]) -> str:
    if not options:
        return precision
    said = [
        f"{len(v)} nodes in float" if k == "float_nodes" else f"{k} {v}" for k, v in options.items()
    ]
    return f"{precision}, {', '.join(said)}"
