"""Scores."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError, UsageError
from edgepack.prove.accuracy import METRICS, metric, require_measurable

_SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], np.float32)


def pairs(answer: np.ndarray, label: np.ndarray) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """One sample a feed."""
    return [({"y": a[None]}, np.asarray(b)[None]) for a, b in zip(answer, label, strict=True)]


def test_top1_is_the_share_of_right_classes() -> None:
    assert metric("top1").score(pairs(_SCORES, np.array([1, 0, 0, 2]))) == 75.0


def test_labels_may_be_one_hot() -> None:
    assert metric("top1").score(pairs(_SCORES, np.eye(3)[[1, 0, 0, 2]])) == 75.0


def test_one_probability_a_sample_has_two_classes() -> None:
    answer = np.array([[0.9], [0.2], [0.6]], np.float32)
    assert metric("top1").score(pairs(answer, np.array([1, 0, 0]))) == pytest.approx(200 / 3)
    assert metric("top1").score(pairs(answer, np.array([[1.0], [0.0], [1.0]]))) == 100.0
    with pytest.raises(UsageError, match="of probabilities"):
        metric("top1").score(pairs(answer + 1.0, np.array([1, 0, 0])))


def test_top5_of_more_classes() -> None:
    scores = np.arange(20, dtype=np.float32).reshape(2, 10)
    assert metric("top5").score(pairs(scores, np.array([5, 4]))) == 50.0


def test_mse_and_mae_have_the_labels_unit_and_less_is_better() -> None:
    answer, label = np.array([[1.0], [4.0]]), np.array([[0.0], [1.0]])
    assert metric("mse").score(pairs(answer, label)) == 5.0
    assert metric("mae").score(pairs(answer, label)) == 2.0
    assert metric("mae").drop(2.0, 2.5) == 0.5
    assert metric("top1").drop(90.0, 89.0) == 1.0


def test_iou_counts_each_class_over_all_samples() -> None:
    answer = np.zeros((1, 2, 2, 2), np.float32)
    answer[0, ..., 1] = [[1, 1], [0, 0]]
    answer[0, ..., 0] = 0.5
    label = np.array([[[1, 0], [0, 0]]])
    # Class 1: 1 of 2; class 0: 2 of 3.
    assert metric("iou").score(pairs(answer, label)) == pytest.approx(100 * (1 / 2 + 2 / 3) / 2)


def test_iou_of_a_mask_is_cut_at_one_half() -> None:
    answer = np.array([[0.9, 0.6, 0.1, 0.2]], np.float32)
    assert metric("iou").score(pairs(answer, np.array([[1, 0, 0, 0]]))) == pytest.approx(
        100 * (1 / 2 + 2 / 3) / 2
    )


@pytest.mark.parametrize(
    ("label", "said"),
    [(3, "a label is 3; the model has 3 classes"), (-1, "a label is -1"), (0.5, "no class number")],
)
def test_a_label_that_is_no_class_is_named(label: float, said: str) -> None:
    with pytest.raises(DataError, match=said):
        metric("top1").score(pairs(_SCORES[:1], np.array([label])))


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"labels have shape \[1, 2\]"):
        metric("mse").score(pairs(_SCORES[:1], np.zeros((1, 2))))


def test_top1_of_what_has_no_classes_is_refused() -> None:
    with pytest.raises(UsageError, match=r"one output of shape \[batch, classes\]"):
        metric("top1").score([({"y": np.zeros((1, 4, 4))}, np.zeros(1, int))])


def test_an_unknown_metric_is_refused_and_the_known_are_listed() -> None:
    with pytest.raises(UsageError) as caught:
        metric("accuracy")
    assert all(name in caught.value.fix for name in METRICS)


def worst_error(answers: list[dict[str, np.ndarray]], labels: list[np.ndarray]) -> float:
    """A metric of one's own."""
    return -max(float(np.abs(a["y"] - b).max()) for a, b in zip(answers, labels, strict=True))


def test_a_function_of_ones_own_is_a_metric() -> None:
    own = metric("tests.prove.test_accuracy:worst_error")
    assert own.score(pairs(np.array([[1.0], [2.0]]), np.array([[1.5], [2.0]]))) == -0.5
    with pytest.raises(UsageError, match="no_such"):
        metric("tests.prove.test_accuracy:no_such")


def breaks(answers: list[dict[str, np.ndarray]], labels: list[np.ndarray]) -> float:
    """A metric of one's own with a slip in it."""
    return float(answers[0]["no_such_output"].mean())


def test_a_function_of_ones_own_that_raises_is_told_by_name() -> None:
    with pytest.raises(UsageError, match="test_accuracy:breaks raised KeyError: 'no_such_output'"):
        metric("tests.prove.test_accuracy:breaks").score(pairs(_SCORES, np.zeros(4, int)))


def test_rows_that_are_not_one_hot_are_no_labels_of_classes() -> None:
    """Landmarks given to top1 were taken for one-hot rows: the largest coordinate was the class."""
    with pytest.raises(DataError, match="names no class") as caught:
        metric("top1").score(pairs(_SCORES[:1], np.array([[0.4, 12.0, 7.5]])))
    assert "mse" in caught.value.fix
    with pytest.raises(DataError, match="rows of 4 numbers; the model has 3 classes"):
        metric("top1").score(pairs(_SCORES[:1], np.eye(4)[:1]))
    assert metric("top1").score(pairs(_SCORES[:1], np.array([[0.1, 0.8, 0.1]]))) == 100.0


def test_of_several_outputs_with_classes_one_has_to_be_chosen() -> None:
    with pytest.raises(UsageError) as caught:
        metric("top1").score([({"a": _SCORES, "b": _SCORES}, np.zeros(4, int))])
    assert "--outputs" in caught.value.fix


@pytest.mark.parametrize("drop", [np.inf, np.nan, -1.0])
def test_a_drop_that_bounds_nothing_is_refused(drop: float) -> None:
    with pytest.raises(UsageError, match="--max-drop is"):
        require_measurable(None, labelled=True, data=True, max_drop=drop)


def test_a_drop_needs_data_to_be_measured_on() -> None:
    with pytest.raises(UsageError, match="no data to measure it on"):
        require_measurable(None, labelled=False, data=False, max_drop=1.0)
    require_measurable(None, labelled=False, data=True, max_drop=1.0)
