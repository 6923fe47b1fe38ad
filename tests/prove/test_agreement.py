"""How far two models say the same."""

from __future__ import annotations

import numpy as np
import pytest

from edgepack.errors import DataError
from edgepack.prove.agreement import Agreement, agreement

_SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.2, 0.3], [0.2, 0.3, 0.5], [0.1, 0.1, 0.8]], np.float32)


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


def test_tags_that_are_each_for_itself_are_judged_by_value() -> None:
    """A sample without any tag has no first one: rounding decides which of its zeros is the largest."""
    rng = np.random.default_rng(0)
    tags = (rng.random((64, 4)) > 0.5).astype(np.float32)
    rounded = np.clip(tags + rng.normal(0.0, 1e-3, tags.shape), 0.0, 1.0)
    assert judge(tags) == "values"
    assert points(rounded, tags) > 99.0


def test_embeddings_are_judged_by_value() -> None:
    """Of hundreds of features that all samples share, rounding decides which is the largest."""
    features = np.random.default_rng(0).normal(0.0, 1.0, (64, 300))
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    assert judge(features) == "classes"
    assert judge(features / lengths) == judge(np.maximum(features, 0.0)) == "values"


def test_names_of_classes_are_the_same_or_not() -> None:
    """The number of a class is no distance: a map of classes with one place in 64 wrong, however far."""
    names = np.random.default_rng(0).integers(0, 21, (16, 8, 8))
    changed = names.copy()
    changed[:, 0, 0] += 20
    assert judge(names) == "classes"
    assert points(changed, names) == 100.0 * 63 / 64
    picture = names.astype(np.uint8)
    assert judge(picture) == "values"


def test_where_the_float_model_answers_nan_nothing_can_agree_and_it_is_told() -> None:
    wanted = _SCORES.copy()
    wanted[2, 1] = np.nan
    with pytest.raises(DataError, match="answers NaN at output 'y' for sample 2"):
        points(_SCORES, wanted)


def test_the_same_infinity_agrees() -> None:
    wanted = np.array([[0.0, -np.inf, -1.0], [-2.0, 0.0, -np.inf]] * 4)[:, None, :]
    assert points(wanted, wanted) == 100.0
    assert 0.0 < points(wanted + 0.01, wanted) < 100.0
    assert points(np.where(np.isinf(wanted), -50.0, wanted), wanted) == 0.0


def test_outputs_whose_size_depends_on_the_sample_are_judged_too() -> None:
    boxes = [np.full((1, n), 2.0 + n) for n in (3, 5, 4)]
    same = [({"y": b}, {"y": b}) for b in boxes]
    assert agreement(same)["y"] == Agreement(points=100.0, judged_by="values")
    fewer = [({"y": b[:, 1:]}, {"y": b}) for b in boxes]
    assert agreement(fewer)["y"].points == 0.0


def test_a_constant_row_of_numbers_is_judged_by_value() -> None:
    assert judge(np.full((4, 5), 3.0)) == judge(np.zeros((4, 5))) == "values"
