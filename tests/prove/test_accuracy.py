"""Scores."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError, UsageError
from edgepack.prove.accuracy import METRICS, agreement, metric

_SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], np.float32)


def pairs(answer: np.ndarray, label: np.ndarray) -> list[tuple[dict[str, np.ndarray], np.ndarray]]:
    """One sample a feed."""
    return [({"y": a[None]}, np.asarray(b)[None]) for a, b in zip(answer, label, strict=True)]


def test_top1_is_the_share_of_right_classes() -> None:
    assert metric("top1").score(pairs(_SCORES, np.array([1, 0, 0, 2]))) == 75.0


def test_labels_may_be_one_hot() -> None:
    assert metric("top1").score(pairs(_SCORES, np.eye(3)[[1, 0, 0, 2]])) == 75.0


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


def both(given: np.ndarray, wanted: np.ndarray) -> list[tuple[dict[str, np.ndarray], ...]]:
    return [({"y": g[None]}, {"y": w[None]}) for g, w in zip(given, wanted, strict=True)]


def points(given: np.ndarray, wanted: np.ndarray) -> float:
    return agreement(both(given, wanted))["y"].points  # type: ignore[arg-type]


def judge(wanted: np.ndarray) -> str:
    return agreement(both(wanted, wanted))["y"].judged_by  # type: ignore[arg-type]


def test_agreement_of_classes_is_how_often_the_first_is_the_same() -> None:
    changed = _SCORES.copy()
    changed[0] = [0.9, 0.05, 0.05]
    assert points(changed, _SCORES) == 75.0
    assert points(_SCORES * 0.5, _SCORES) == 100.0


def test_agreement_of_numbers_falls_with_the_error_against_their_spread() -> None:
    wanted = np.random.default_rng(0).normal(5.0, 2.0, (100, 4, 4))
    noisy = wanted + np.random.default_rng(1).normal(0.0, 0.2, wanted.shape)
    assert points(noisy, wanted) == pytest.approx(90.0, abs=1.0)
    assert points(wanted, wanted) == 100.0
    assert points(wanted * np.nan, wanted) == 0.0


def test_a_model_s_outputs_are_judged_one_by_one() -> None:
    answers = [({"a": _SCORES, "b": _SCORES[:, ::-1]}, {"a": _SCORES, "b": _SCORES})]
    found = agreement(answers)
    assert found["a"].points == 100.0
    assert found["b"].points < 60.0


def test_a_constant_output_agrees_only_with_itself() -> None:
    wanted = np.full((3, 2, 2), 4.0)
    assert points(wanted, wanted) == 100.0
    assert 0.0 < points(wanted + 0.4, wanted) < 100.0


def test_probabilities_and_scores_of_varied_samples_are_judged_by_class() -> None:
    rng = np.random.default_rng(0)
    scores = rng.normal(0.0, 3.0, (32, 10)) + rng.normal(0.0, 1.5, 10)
    same_winner = np.tile([0.7, 0.2, 0.1], (8, 1))
    assert judge(_SCORES) == judge(scores) == judge(same_winner) == "classes"


def test_coordinates_and_scores_of_samples_all_alike_are_judged_by_value() -> None:
    """The same place is the largest in each, however wrong the others are."""
    rng = np.random.default_rng(0)
    landmarks = np.append(np.linspace(0.0, 180.0, 62), 220.0) + rng.normal(0.0, 8.0, (32, 63))
    alike = np.linspace(-4.0, 4.0, 10) + rng.normal(0.0, 0.1, (32, 10))
    broken = np.where(np.arange(63) < 62, rng.normal(90.0, 30.0, (32, 63)), landmarks)
    assert judge(landmarks) == judge(alike) == judge(landmarks[:1]) == "values"
    assert (broken.argmax(axis=1) == landmarks.argmax(axis=1)).mean() > 0.9
    assert points(broken, landmarks) < 40.0


def test_a_constant_row_of_numbers_is_judged_by_value() -> None:
    assert judge(np.full((4, 5), 3.0)) == judge(np.zeros((4, 5))) == "values"
