"""Division that rounds down, of integers too, against TensorFlow itself."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.agreement import agree


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize("divisor", [3, -3])
def test_floor_division_rounds_down(dtype: str, divisor: int) -> None:
    x = np.array([-7, -6, -1, 0, 1, 5, 7, 9], dtype)
    agree(lambda v: (v // divisor, tf.math.floormod(v, divisor)), x, shapes=[[None]])


@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize("divisor", [3, -3])
def test_truncated_division_rounds_towards_zero(dtype: str, divisor: int) -> None:
    x = np.array([-7, -6, -1, 0, 1, 5, 7, 9], dtype)
    agree(lambda v: tf.truncatemod(v, divisor), x, shapes=[[None]])
