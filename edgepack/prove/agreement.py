"""How far two models say the same, where there are no labels to tell which is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError
from edgepack.prove.engine import Tensors

#: What agreement at an output is of.
Judge = Literal["classes", "values"]


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two models say the same at one output.

    Attributes:
        points: of 100.
        judged_by: "classes": how often the same class comes first, or is named. "values": 100 · (1 − the error's root mean square over that of the
            float output about its mean), not below 0.
    """

    points: float
    judged_by: Judge


def agreement(pairs: Iterable[tuple[Tensors, Tensors]]) -> dict[str, Agreement]:
    """How far a model says what the float model says, by output.

    Probabilities ([batch, 2 or more] that sum to 1) are judged by which class is first; other rows of numbers, where all places compete
    on equal terms, as a classifier's scores do for samples of all kinds. Where the place alone says how large a number is, as among
    the coordinates of landmarks, or for samples that are all alike, the same place comes first whatever is broken: then the values
    count, as they do for all else. The places' intraclass correlation tells: one half or more (ICC(1) of Shrout and Fleiss 1979,
    "Intraclass correlations: uses in assessing rater reliability"). Scores have both signs and any length: rows of numbers from 0 up that
    are no probabilities (tags, coordinates, features after a ReLU) and rows all of one length (normalized embeddings) are judged by
    value as well. Integers of 32 bits or more and booleans are names of classes, by how many are the same.

    Args: pairs: (the model's outputs, the float model's), a feed each.

    Raises:
        DataError: the float model itself answers NaN.
    """
    sums: dict[str, _Sums] = defaultdict(_Sums)
    for feed, (given, wanted) in enumerate(pairs):
        for name, values in wanted.items():
            if np.isnan(values).any():
                raise _no_answer(name, feed)
            sums[name].add(given[name], values)
    return {name: s.agreement() for name, s in sums.items()}


@dataclass(kw_only=True)
class _Sums:
    """What agreement needs to know of one output.

    Attributes:
        same: rows in which the same place comes first; of names of classes, those that are the same.
        places: the float output's sum at each place of a row, while it looks like scores of classes.
        named: it names classes, in integers.
        probable, positive: every row has been of probabilities; no number has been below 0.
        shortest, longest: lengths of rows.
    """

    same: int = 0
    rows: int = 0
    named: bool = False
    ranked: bool = True
    probable: bool = True
    positive: bool = True
    shortest: float = np.inf
    longest: float = 0.0
    places: NDArray[np.float64] | float = 0.0
    error: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, given: NDArray[Any], wanted: NDArray[Any]) -> None:
        if given.shape != wanted.shape:
            self.error = np.inf
            return
        self.named = wanted.dtype.kind == "b" or (
            wanted.dtype.kind in "iu" and wanted.dtype.itemsize >= 4
        )
        g, w = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
        self.ranked = self.ranked and w.ndim == 2 and w.shape[1] > 1
        self.ranked = self.ranked and np.shape(self.places) in ((), w.shape[1:])
        if self.named:
            self.same += int((given == wanted).sum())
            self.rows += wanted.size
        elif self.ranked:
            self.same += int((given.argmax(axis=1) == wanted.argmax(axis=1)).sum())
            self.rows += len(wanted)
            self.places = self.places + w.sum(axis=0)
            self.probable = self.probable and are_probabilities(w)
            self.positive = self.positive and bool((w >= 0.0).all())
            lengths = np.linalg.norm(w, axis=1)
            self.shortest = min(self.shortest, float(lengths.min(initial=np.inf)))
            self.longest = max(self.longest, float(lengths.max(initial=0.0)))
        # Where both are the same infinity (a logarithm of 0), they agree, and nothing is added to the spread.
        infinite = np.isinf(w) & (g == w)
        g, w = np.where(infinite, 0.0, g), np.where(infinite, 0.0, w)
        self.error += float(np.sum((g - w) ** 2))
        self.total += float(w.sum())
        self.squares += float(np.sum(w**2))
        self.count += w.size

    def agreement(self) -> Agreement:
        if not self._of_classes():
            return Agreement(points=self._of_values(), judged_by="values")
        finite = np.isfinite(self.error)
        return Agreement(
            points=100.0 * self.same / self.rows if finite else 0.0, judged_by="classes"
        )

    def _of_classes(self) -> bool:
        if self.rows == 0:
            return False
        if self.named or not self.ranked:
            return self.named
        if self.probable or self.positive:
            return self.probable
        normalized = self.longest - self.shortest < 1e-3 * self.longest
        return not normalized and self._place_correlation() < 0.5

    def _place_correlation(self) -> float:
        """How much of an entry its place in the row says: from 0, nothing, to 1, all."""
        places = self.count // self.rows
        if self.rows == 1:
            return 1.0
        mean = self.total**2 / self.count
        between = float(np.sum(np.square(self.places))) / self.rows - mean
        within = self.squares - mean - between
        # Mean squares.
        between, within = between / (places - 1), within / (places * (self.rows - 1))
        whole = between + (self.rows - 1) * within
        return (between - within) / whole if whole > 0.0 else 1.0

    def _of_values(self) -> float:
        if not np.isfinite(self.error):
            return 0.0
        spread = self.squares - self.total**2 / self.count if self.count else 0.0
        # Rounding leaves a trace where all values are the same.
        if spread <= 1e-12 * self.squares:
            spread = self.squares
        if spread == 0.0:
            return 100.0 if self.error == 0.0 else 0.0
        return 100.0 * max(0.0, 1.0 - float(np.sqrt(self.error / spread)))


def are_probabilities(rows: NDArray[np.float64]) -> bool:
    """Whether each row is a share for each class: none below 0, 1 together."""
    return bool((rows >= 0.0).all() and (np.abs(rows.sum(axis=1) - 1.0) < 1e-3).all())


def _no_answer(output: str, feed: int) -> DataError:
    return DataError(
        f"the float model itself answers NaN at output {output!r} for sample {feed} of those that agreement is measured on",
        "mend or drop such samples; where all are so, the samples are not in the model's own preprocessing, or the model is broken",
    )
