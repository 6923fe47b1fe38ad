"""Images resized as TensorFlow does."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.function_graph import agree

IMAGE = np.random.default_rng(1).uniform(0, 255, (2, 9, 8, 3)).astype(np.float32)
METHODS = (
    "bilinear",
    "nearest",
    "bicubic",
    "area",
    "lanczos3",
    "lanczos5",
    "gaussian",
    "mitchellcubic",
)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("antialias", [False, True])
def test_image_resize_agrees_up_and_down(method: str, antialias: bool) -> None:
    agree(lambda x: tf.image.resize(x, (13, 5), method, antialias=antialias), IMAGE)


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "area"])
def test_integer_images_give_float32(method: str) -> None:
    agree(lambda x: tf.image.resize(x, (13, 5), method), IMAGE.astype(np.uint8))


@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("size", [(18, 16), (5, 4)])
def test_the_older_rules_for_pixel_centers_agree(align: bool, size: tuple[int, int]) -> None:
    agree(lambda x: tf.raw_ops.ResizeBicubic(images=x, size=size, align_corners=align), IMAGE)
    agree(lambda x: tf.raw_ops.ResizeArea(images=x, size=size, align_corners=align), IMAGE)


def test_a_size_computed_at_run_time_agrees() -> None:
    agree(lambda x: tf.image.resize(x, tf.shape(x)[1:3] * 2, "lanczos3"), IMAGE)


def test_known_sizes_leave_two_products_and_no_resize() -> None:
    model = agree(lambda x: tf.image.resize(x, (13, 5), antialias=True), IMAGE)
    kinds = sorted(n.op_type for n in model.graph.node if n.op_type != "Transpose")
    assert kinds == ["MatMul", "MatMul"]
