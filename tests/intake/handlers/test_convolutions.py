"""Convolutions with groups, and transposed ones that are longer than their kernel reaches."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

SIZES = {1: (2, 9, 4), 2: (2, 9, 8, 4), 3: (1, 5, 6, 7, 4)}


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_groups_agree(rank: int) -> None:
    x = np.random.default_rng(1).normal(size=SIZES[rank]).astype(np.float32)
    layer = getattr(keras.layers, f"Conv{rank}D")(8, 3, groups=2, strides=2)
    layer(x)
    agree(layer, x, shapes=[[None, *x.shape[1:]]])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    "sizes",
    [
        {"kernel_size": 2, "strides": 3},
        {"kernel_size": 4, "strides": 3, "output_padding": 1},
        {"kernel_size": 5, "strides": 2},
        {"kernel_size": 1, "strides": 3},
    ],
    ids=str,
)
def test_transposed_convolutions_agree(rank: int, padding: str, sizes: dict[str, int]) -> None:
    x = np.random.default_rng(1).normal(size=SIZES[rank]).astype(np.float32)
    layer = getattr(keras.layers, f"Conv{rank}DTranspose")(3, padding=padding, **sizes)
    layer(x)
    agree(layer, x, shapes=[[None, *x.shape[1:]]])


def test_keras_antialiased_resizing_in_front_of_a_model_agrees() -> None:
    front = keras.Sequential(
        [
            keras.layers.Resizing(6, 5, antialias=True),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Conv2D(2, 3),
        ]
    )
    x = np.random.default_rng(1).uniform(0, 255, (1, 9, 8, 3)).astype(np.float32)
    front(x)
    agree(lambda t: tf.identity(front(t, training=False)), x, shapes=[[None, None, None, 3]])
