"""Colors, crops, transforms, morphology and boxes."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from edgepack.errors import ModelError
from tests.intake.handlers.function_graph import FunctionGraph, agree, converted

IMAGE = np.random.default_rng(1).uniform(0, 1, (2, 9, 8, 3)).astype(np.float32)
IMAGE[0, 0, 0] = 0  # Black, grey and the pure colors are where hue and saturation are divided by 0.
IMAGE[0, 0, 1] = 0.5
IMAGE[0, 0, 2:5] = np.eye(3)
BOXES = np.array(
    [[0, 0, 1, 1], [0.2, 0.1, 0.7, 0.9], [0.5, 0.5, 1.2, 1.1], [0.9, 0.8, 0.1, 0.2]], np.float32
)


def test_colors_agree() -> None:
    agree(tf.image.rgb_to_hsv, IMAGE)
    agree(tf.image.hsv_to_rgb, IMAGE)


def test_saturation_agrees_for_grey_and_black() -> None:
    agree(lambda x: tf.image.adjust_saturation(x, 1.5), IMAGE)


@pytest.mark.parametrize("method", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(5, 6), (1, 1)])
def test_crops_agree_beyond_the_edge_too(method: str, size: tuple[int, int]) -> None:
    owners = np.array([0, 1, 1, 0], np.int32)
    agree(
        lambda x, b, i: tf.image.crop_and_resize(x, b, i, size, method, 7.0), IMAGE, BOXES, owners
    )


@pytest.mark.parametrize("mode", ["CONSTANT", "NEAREST", "REFLECT", "WRAP"])
@pytest.mark.parametrize("method", ["NEAREST", "BILINEAR"])
def test_projective_transforms_agree(mode: str, method: str) -> None:
    matrix = np.array([[1.1, 0.1, -1.3, 0.05, 0.9, 0.57, 0.001, 0]], np.float32)
    how = {"output_shape": [7, 10], "fill_value": 0.5, "interpolation": method, "fill_mode": mode}
    agree(
        lambda x: tf.raw_ops.ImageProjectiveTransformV3(images=x, transforms=matrix, **how), IMAGE
    )


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_morphology_agrees(padding: str) -> None:
    kernel = np.random.default_rng(1).normal(size=(3, 2, 3)).astype(np.float32)
    for operation in (tf.nn.dilation2d, tf.nn.erosion2d):
        agree(
            lambda x, o=operation: o(x, kernel, [1, 2, 2, 1], padding, "NHWC", [1, 2, 1, 1]), IMAGE
        )


def test_the_first_suppression_agrees() -> None:
    scores = np.array([0.9, 0.75, 0.6, 0.95], np.float32)
    agree(
        lambda b, s: tf.raw_ops.NonMaxSuppression(boxes=b, scores=s, max_output_size=2),
        BOXES,
        scores,
    )


def test_soft_suppression_is_refused() -> None:
    scores = np.array([0.9, 0.75, 0.6, 0.95], np.float32)
    graph = FunctionGraph(
        lambda b, s: tf.image.non_max_suppression_with_scores(b, s, 4, 0.5, soft_nms_sigma=0.5),
        [BOXES, scores],
        [[4, 4], [4]],
    )
    with pytest.raises(ModelError, match=r"NonMaxSuppressionV5.*soft_nms_sigma is 0\.5"):
        converted(graph)
