"""How good are a model's answers: against labels, or against the float model's own."""

from __future__ import annotations

import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError, UsageError
from edgepack.prove.engine import Tensors

#: A feed's outputs by name, and its labels; they come one at a time, so that what is large need not be held.
Pairs = Iterable[tuple[Tensors, NDArray[Any]]]
ScoreFunction = Callable[[Pairs], float]
#: What agreement at an output is of.
Judge = Literal["classes", "values"]
METRICS = ("top1", "top5", "mse", "mae", "iou")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score and what it means.

    Attributes:
        unit: "points" of 100, or "" for the labels' own unit.
        higher_is_better: a drop is reference − score, else score − reference.
    """

    name: str
    unit: Literal["points", ""]
    higher_is_better: bool
    score: ScoreFunction

    def drop(self, reference: float, score: float) -> float:
        """By how much `score` is worse than `reference`; negative where it is better."""
        return reference - score if self.higher_is_better else score - reference


def metric(name: str) -> Metric:
    """The metric called `name`, or the function `module:function`.

    A function of yours takes (outputs, labels), each a list with an entry a feed: outputs by name, labels as one array; it gives
    a number of which more is better. It runs in this process.

    Raises:
        UsageError: there is none of that name.
    """
    if name in _SCORES:
        return _SCORES[name]
    if ":" in name:
        return Metric(name=name, unit="", higher_is_better=True, score=_function(name))
    raise UsageError(
        f"there is no metric {name!r}", f"use one of {', '.join(METRICS)}, or module:function"
    )


def require_measurable(name: str | None, *, labelled: bool, max_drop: float | None) -> None:
    """Raises UsageError: the metric has nothing to measure against, or nobody said how much it may lose.

    Args:
        name: None: top1 where there are labels.
        labelled: there are evaluation data.
        max_drop: None: what is usual, which a metric in points alone has.
    """
    if name is None:
        return
    if not labelled:
        raise UsageError(
            f"the metric {name} measures against labels, and there are no evaluation data",
            "give --eval DATA with labels, or leave --metric out: agreement with the float model is measured without",
        )
    if max_drop is None and not metric(name).unit:
        raise UsageError(
            f"{name} has a unit of its own, in which no drop is usual",
            "say by how much it may be worse than the float model's: --max-drop",
        )


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How far two models say the same at one output.

    Attributes:
        points: of 100.
        judged_by: "classes": how often the same class is first. "values": 100 · (1 − the error's root mean square over that of the
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
    "Intraclass correlations: uses in assessing rater reliability").

    Args: pairs: (the model's outputs, the float model's), a feed each.
    """
    sums: dict[str, _Sums] = defaultdict(_Sums)
    for given, wanted in pairs:
        for name, values in wanted.items():
            sums[name].add(given[name], values)
    return {name: s.agreement() for name, s in sums.items()}


@dataclass(kw_only=True)
class _Sums:
    """What agreement needs to know of one output.

    Attributes:
        same: rows in which the same place comes first.
        places: the float output's sum at each place of a row, while it looks like scores of classes.
        probable: every row has been of probabilities.
    """

    same: int = 0
    rows: int = 0
    ranked: bool = True
    probable: bool = True
    places: NDArray[np.float64] | float = 0.0
    error: float = 0.0
    total: float = 0.0
    squares: float = 0.0
    count: int = 0

    def add(self, given: NDArray[Any], wanted: NDArray[Any]) -> None:
        g, w = np.asarray(given, np.float64), np.asarray(wanted, np.float64)
        self.ranked = self.ranked and wanted.ndim == 2 and wanted.shape[1] > 1
        if self.ranked:
            self.same += int((given.argmax(axis=1) == wanted.argmax(axis=1)).sum())
            self.rows += len(wanted)
            self.places = self.places + w.sum(axis=0)
            self.probable = self.probable and _are_probabilities(w)
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
        if not self.ranked or self.rows == 0:
            return False
        return self.probable or self._place_correlation() < 0.5

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


def _are_probabilities(rows: NDArray[np.float64]) -> bool:
    return bool((rows >= 0.0).all() and (np.abs(rows.sum(axis=1) - 1.0) < 1e-3).all())


def _top(count: int) -> ScoreFunction:
    def score(pairs: Pairs) -> float:
        hits = []
        for answer, label in pairs:
            scores = _scores_of_classes(answer)
            wanted = _classes(label, scores.shape[1])
            if len(wanted) != len(scores):
                raise DataError(
                    f"{len(wanted)} labels came for {len(scores)} answers",
                    "give one label for each sample",
                )
            best = np.argsort(-scores, axis=1, kind="stable")[:, :count]
            hits.append((best == wanted[:, None]).any(axis=1))
        return 100.0 * float(np.concatenate(hits).mean())

    return score


def _scores_of_classes(answer: Tensors) -> NDArray[Any]:
    found = [x for x in answer.values() if x.ndim == 2 and x.shape[1] > 1]
    if len(found) != 1:
        shapes = ", ".join(f"{n} {list(x.shape)}" for n, x in answer.items())
        raise UsageError(
            f"top1 and top5 need one output of shape [batch, classes]; the model has {shapes}",
            "use --metric mse, or a function of yours: --metric module:function",
        )
    return found[0]


def _classes(label: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Class numbers, from numbers or from one-hot rows."""
    if label.ndim == 2 and label.shape[1] == count:
        return np.asarray(label.argmax(axis=1), np.int64)
    classes = label.reshape(-1)
    if classes.dtype.kind not in "iu" and not np.array_equal(classes, np.round(classes)):
        raise DataError(
            f"a label is {classes[classes != np.round(classes)][0]}, no class number",
            "labels for top1 and top5 are whole numbers from 0, or one-hot rows",
        )
    outside = (classes < 0) | (classes >= count)
    if outside.any():
        raise DataError(
            f"a label is {classes[outside][0]}; the model has {count} classes",
            f"labels are 0 to {count - 1}",
        )
    return classes.astype(np.int64)


def _mean(of: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> ScoreFunction:
    def score(pairs: Pairs) -> float:
        total, count = 0.0, 0
        for answer, label in pairs:
            value = of(np.asarray(_only(answer), np.float64) - _shaped(label, _only(answer)))
            total += float(value.sum())
            count += value.size
        return total / count

    return score


def _iou(pairs: Pairs) -> float:
    """Mean intersection over union of the classes that the labels or the answers have; the output is [batch, classes, …] or [batch, …, classes] scores."""
    both: Counter[int] = Counter()
    either: Counter[int] = Counter()
    for answer, label in pairs:
        given, wanted = _segments(_only(answer), np.asarray(label))
        for c in np.union1d(given, wanted).tolist():
            both[c] += int(((given == c) & (wanted == c)).sum())
            either[c] += int(((given == c) | (wanted == c)).sum())
    present = [c for c in either if either[c]]
    return 100.0 * float(np.mean([both[c] / either[c] for c in present]))


def _segments(
    scores: NDArray[Any], label: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class numbers that the model gives, and those it should."""
    wanted = label.astype(np.int64)
    if scores.ndim == wanted.ndim + 1:
        for axis in (scores.ndim - 1, 1):
            if scores.shape[:axis] + scores.shape[axis + 1 :] == wanted.shape:
                return scores.argmax(axis=axis), wanted
        raise _misshapen(wanted, scores)
    return (scores > 0.5).astype(np.int64), _shaped(wanted, scores).astype(np.int64)


def _only(answer: Tensors) -> NDArray[Any]:
    if len(answer) != 1:
        raise UsageError(
            f"this metric takes one output; the model has {', '.join(answer)}",
            "end the model at one (--outputs), or use --metric module:function",
        )
    return next(iter(answer.values()))


def _shaped(label: NDArray[Any], answer: NDArray[Any]) -> NDArray[np.float64]:
    if label.size != answer.size:
        raise _misshapen(label, answer)
    return np.asarray(label, np.float64).reshape(answer.shape)


def _misshapen(label: NDArray[Any], answer: NDArray[Any]) -> DataError:
    return DataError(
        f"labels have shape {list(label.shape)}, the model's answers {list(answer.shape)}",
        "give labels in the shape of the output",
    )


def _function(name: str) -> ScoreFunction:
    module_name, _, function_name = name.partition(":")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"--metric {name}: {error}", "name an importable module and a function in it"
        ) from error

    def score(pairs: Pairs) -> float:
        answers, labels = map(list, zip(*pairs, strict=True))
        value = function(answers, labels)
        try:
            return float(value)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"--metric {name} gave {value!r}", "return one number of which more is better"
            ) from error

    return score


_SCORES: Mapping[str, Metric] = {
    "top1": Metric(name="top1", unit="points", higher_is_better=True, score=_top(1)),
    "top5": Metric(name="top5", unit="points", higher_is_better=True, score=_top(5)),
    "mse": Metric(name="mse", unit="", higher_is_better=False, score=_mean(np.square)),
    "mae": Metric(name="mae", unit="", higher_is_better=False, score=_mean(np.abs)),
    "iou": Metric(name="iou", unit="points", higher_is_better=True, score=_iou),
}
