"""How good are a model's answers, against labels."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import DataError, UsageError, first_line
from edgepack.prove.agreement import are_probabilities
from edgepack.prove.engine import Tensors

#: A feed's outputs by name, and its labels; they come one at a time, so that what is large need not be held.
Pairs = Iterable[tuple[Tensors, NDArray[Any]]]
ScoreFunction = Callable[[Pairs], float]
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


def require_measurable(
    name: str | None, *, labelled: bool, data: bool, max_drop: float | None
) -> None:
    """Raises UsageError: there is nothing to measure against, or how much may be lost is not said, or is no number.

    Args:
        name: of the metric; None: top1 where there are labels.
        labelled: there are evaluation data.
        data: there are evaluation or calibration data.
        max_drop: None: what is usual, which a metric in points alone has.
    """
    if max_drop is not None and not (np.isfinite(max_drop) and max_drop >= 0.0):
        raise UsageError(
            f"--max-drop is {max_drop}", "give a number from 0: 0.5 allows half a point of top1"
        )
    if max_drop is not None and not data:
        raise UsageError(
            "--max-drop bounds what accuracy may lose, and there are no data to measure it on",
            "give --eval DATA with labels, or --calibration DATA, or leave it out",
        )
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
    """[batch, classes]; of one probability a sample, those of its not being so and of its being so."""
    found = [x for x in answer.values() if x.ndim == 2 and x.shape[1] > 1]
    alone = [x for x in answer.values() if x.ndim == 2 and x.shape[1] == 1]
    if len(answer) == len(alone) == 1 and ((alone[0] >= 0.0) & (alone[0] <= 1.0)).all():
        return np.concatenate([1.0 - alone[0], alone[0]], axis=1)
    if len(found) != 1:
        shapes = ", ".join(f"{n} {list(x.shape)}" for n, x in answer.items())
        ways = (
            "use --metric iou for a class at each place, mse or mae for numbers (with --max-drop)"
        )
        if len(answer) > 1:
            ways = "end the model at one of them (--outputs NAME)"
        raise UsageError(
            f"top1 and top5 need one output of shape [batch, classes], or [batch, 1] of probabilities; the model has {shapes}",
            f"{ways}, or a function of yours: --metric module:function",
        )
    return found[0]


def _classes(label: NDArray[Any], count: int) -> NDArray[np.int64]:
    """Class numbers, from numbers or from one-hot rows."""
    if label.ndim == 2 and label.shape[1] > 1:
        _require_one_class(label, count)
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


def _require_one_class(rows: NDArray[Any], count: int) -> None:
    """Raises DataError: rows that are neither one-hot nor a share for each class."""
    if rows.shape[1] != count:
        raise DataError(
            f"labels are rows of {rows.shape[1]} numbers; the model has {count} classes",
            "give class numbers, or one-hot rows as wide as the output",
        )
    if not are_probabilities(np.asarray(rows, np.float64)):
        raise DataError(
            f"a label is the row {np.array2string(rows[0], precision=3, threshold=6, edgeitems=3)}, which names no class",
            "top1 and top5 take class numbers or one-hot rows; for numbers use --metric mse or mae with --max-drop, "
            "for several classes a sample a function of yours: --metric module:function",
        )


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
        try:
            value = function(answers, labels)
        except (Exception, SystemExit) as error:
            raise UsageError(
                f"--metric {name} raised {first_line(error)}",
                "it takes (outputs, labels), each a list with an entry a sample: outputs by name, labels as one array",
            ) from error
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
