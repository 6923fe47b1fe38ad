"""Log1p, Expm1, Xlogy and Xlog1py against TensorFlow itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.intake.handlers.agreement import agree

VALUES = np.array([0, 1e-6, 0.5, 1, 20], np.float32)


@pytest.mark.parametrize("function", [tf.math.log1p, tf.math.expm1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_of_one_number(function: Callable[[Any], Any], dtype: str) -> None:
    agree(function, np.minimum(VALUES, 5).astype(dtype), shapes=[[None]])


@pytest.mark.parametrize("function", [tf.math.xlogy, tf.math.xlog1py])
def test_zero_times_a_logarithm_is_zero(function: Callable[[Any, Any], Any]) -> None:
    """Also where the logarithm is −∞."""
    x, y = np.meshgrid(np.array([0, 0.5, -2], np.float32), VALUES[1:])
    agree(function, x, y)
    nothing = np.zeros(2, np.float32)
    agree(function, nothing, -nothing)
