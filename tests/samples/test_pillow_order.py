"""Pillow's order of the two sides, on which the device's image helpers rest (runtime/README.md, interpolation)."""

from __future__ import annotations

import itertools

import numpy as np
import PIL
import pytest
from PIL import Image

SIDES, SCALED = (8, 13, 33, 90, 131), (5, 12, 24, 40, 77)


@pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="Pillow 13's own rule")
@pytest.mark.parametrize("width", SIDES)
def test_pillow_begins_with_a_height_that_shrinks_by_more_than_twice_what_the_width_does(
    width: int,
) -> None:
    rng = np.random.default_rng(width)
    filter_ = Image.Resampling.LANCZOS
    seen = set()
    for height, wide, high in itertools.product(SIDES, SCALED, SCALED):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))
        height_first = high < height and height - high > 2 * (width - wide)
        between = (width, high) if height_first else (wide, height)
        steps = image.resize(between, filter_).resize((wide, high), filter_)
        whole = np.asarray(image.resize((wide, high), filter_))
        np.testing.assert_array_equal(
            np.asarray(steps), whole, err_msg=f"{image.size} {wide} {high}"
        )
        seen.add(height_first)
    assert seen == {True, False}
