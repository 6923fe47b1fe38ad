"""Segment reductions and scattering."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

DATA = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min", "prod"])
def test_an_empty_segment_is_as_in_tensorflow(kind: str) -> None:
    ids = np.array([0, 0, 1, 1, 3, 3], np.int32)
    agree(lambda x, s: getattr(tf.math, f"segment_{kind}")(x, s), DATA, ids)
    agree(lambda x, s: getattr(tf.math, f"unsorted_segment_{kind}")(x, s, 5), DATA, ids)


@pytest.mark.parametrize("kind", ["sum", "mean", "max", "min", "prod"])
def test_negative_ids_are_dropped(kind: str) -> None:
    ids = np.array([-1, 0, 1, -1, 0, -1], np.int32)
    agree(lambda x, s: getattr(tf.math, f"unsorted_segment_{kind}")(x, s, 3), DATA, ids)


def test_infinite_data_agree() -> None:
    data = np.array([np.inf, -np.inf], np.float32)
    agree(lambda x: tf.math.unsorted_segment_max(x, [0, 1], 3), data)
    agree(lambda x: tf.math.segment_max(x, [0, 2]), data)


def test_values_scattered_to_one_place_are_added() -> None:
    places = np.array([[1], [3], [0], [1], [1], [5]], np.int32)
    agree(lambda i, u: tf.scatter_nd(i, u, [6, 2]), places, DATA)
    labels = np.array([0, 1, 1, 0, 2, 2], np.int32)
    agree(lambda a, b: tf.math.confusion_matrix(a, b, 3), labels, labels[::-1].copy())


def test_constant_places_that_differ_need_no_reduction() -> None:
    model = agree(lambda u: tf.scatter_nd([[4], [1], [0], [2], [3], [5]], u, [7, 2]), DATA)
    (scatter,) = [n for n in model.graph.node if n.op_type == "ScatterND"]
    assert not scatter.attribute


def test_counts_agree_with_weights_and_without() -> None:
    ids = np.array([[0, 3, 3], [1, 5, 0]], np.int32)
    shares = np.array([[0.5, 1, 2], [3, 4, 5]], np.float32)
    agree(lambda x, w: tf.math.bincount(x, w, minlength=5, maxlength=5, axis=-1), ids, shares)
    agree(lambda x, w: tf.math.bincount(x, w, minlength=5, maxlength=5), ids[0], shares[0])
    agree(lambda x: tf.math.bincount(x, minlength=5, maxlength=5), ids[0])
