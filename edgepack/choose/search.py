"""When a recipe loses too much: other ways to choose ranges, then the layers that hurt most kept in float.

Nothing is accepted unmeasured: each attempt is built, proved and held against the gate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgepack.choose.candidate import Candidate
from edgepack.errors import ParityError

#: Attempts in one search, at most: a model for which so many fail wants another precision.
MOST_ATTEMPTS = 40

#: Builds and measures the recipe with these options in it.
Attempt = Callable[[Mapping[str, Any]], Candidate]
#: Names of a quantized candidate's nodes, those first that are most worth their work in float.
Rank = Callable[[Candidate], Sequence[str]]


@dataclass(kw_only=True)
class Search:
    """One search for a target.

    Attributes:
        cost: of leaving a node in float, in multiply-accumulates.
        trail: every attempt, in order.
    """

    attempt: Attempt
    rank: Rank
    cost: Mapping[str, int]
    trail: list[Candidate] = field(default_factory=list)

    def run(self, first: Candidate, variants: Sequence[Mapping[str, Any]]) -> Candidate:
        """The first candidate that holds, with the least float work found; else the best of all.

        Args:
            first: the recipe as the profile has it, which does not hold, or answers so far off that it was not let through.
            variants: options in place of the recipe's, each tried alone.
        """
        self.trail.append(first)
        for options in variants:
            if self._try(options).holds:
                return self.trail[-1]
        return self._with_float_nodes(self._best())

    def _with_float_nodes(self, start: Candidate) -> Candidate:
        names = list(self.rank(start))
        kept = self._fewest(start, names)
        if kept is None:
            return self._best()
        self._prune(kept)
        # Whatever was tried last: of all that hold, the one with the least work in float.
        return min((c for c in self.trail if c.holds), key=self.work)

    def work(self, candidate: Candidate) -> tuple[int, int]:
        """What a candidate's nodes in float cost, in the unit of `cost`, and how many they are."""
        kept = candidate.kept_float
        return sum(self.cost.get(n, 0) for n in kept), len(kept)

    def float_share(self, candidate: Candidate) -> float:
        """What share of the whole model's work a candidate's nodes in float are, 0 to 1."""
        whole = sum(self.cost.values())
        return self.work(candidate)[0] / whole if whole else 0.0

    def _fewest(self, start: Candidate, names: Sequence[str]) -> Candidate | None:
        """The candidate with the shortest head of `names` in float that holds: doubled until one does, then halved back.

        A head that leaves nothing to quantize is too long: a shorter one may hold.
        """
        low, high, bounded, found = 0, 1, False, None
        while low < len(names) and not (bounded and high - low <= 1) and not self._exhausted():
            count = (low + high) // 2 if bounded else min(high, len(names))
            candidate = self._keep(start, names[:count])
            if candidate.holds:
                found = candidate
            if candidate.holds or _keeps_too_many(candidate):
                high, bounded = count, True
            else:
                low, high = count, high if bounded else 2 * count
        return found

    def _prune(self, found: Candidate) -> None:
        """Try `found` less each node in float, the costliest first; what holds without one goes on without it."""
        for name in sorted(found.kept_float, key=lambda n: -self.cost.get(n, 0)):
            if self._exhausted() or len(found.kept_float) == 1:
                break
            fewer = [n for n in found.kept_float if n != name]
            candidate = self._keep(found, fewer)
            if candidate.holds:
                found = candidate

    def _keep(self, start: Candidate, names: Sequence[str]) -> Candidate:
        return self._try({**start.options, "float_nodes": tuple(sorted(names))})

    def _try(self, options: Mapping[str, Any]) -> Candidate:
        self.trail.append(self.attempt(options))
        return self.trail[-1]

    def _best(self) -> Candidate:
        measured = [c for c in self.trail if c.measured is not None]
        if not measured:
            return self.trail[0]
        return min(measured, key=lambda c: c.measured.drop if c.measured else float("inf"))

    def _exhausted(self) -> bool:
        return len(self.trail) >= MOST_ATTEMPTS


def _keeps_too_many(candidate: Candidate) -> bool:
    """Whether it could not be built at all. What was built and answers too far off keeps too few."""
    return not candidate.stages and not isinstance(candidate.error, ParityError)
