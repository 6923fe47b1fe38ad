"""Timing side by side. How long anything takes is not asserted, only who is slower where that is beyond doubt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgepack.artifact import ModelFile
from edgepack.choose.choice import is_quicker
from edgepack.choose.race import Timing, race
from edgepack.errors import StepError
from edgepack.runtimes import Provider
from tests.models import FLOAT, model, tensors, value, wrap


def products(folder: Path, name: str, count: int) -> ModelFile:
    """`count` matrix products, one after the other."""
    nodes = [helper.make_node("MatMul", [f"x{i}", "w"], [f"x{i + 1}"]) for i in range(count)]
    proto = model(
        nodes,
        [value("x0", FLOAT, [64, 256])],
        [value(f"x{count}", FLOAT, [64, 256])],
        tensors({"w": np.eye(256, dtype=np.float32)}),
    )
    return wrap(proto, folder, name)


def test_the_model_with_fifty_times_the_work_is_slower(tmp_path: Path) -> None:
    models = {"short": products(tmp_path, "short", 1), "long": products(tmp_path, "long", 50)}
    times = race(models, {"x0": np.ones((64, 256), np.float32)})
    assert times["short"].median_ms < times["long"].median_ms
    assert len(times["short"].times_ms) == len(times["long"].times_ms) >= 7


def test_a_provider_of_its_own_is_timed_beside_onnxruntime(tmp_path: Path) -> None:
    openvino = Provider(name="OpenVINOExecutionProvider", package="openvino", version="2026.4.1")
    models = {"short": products(tmp_path, "short", 1), "long": products(tmp_path, "long", 50)}
    feed = {"x0": np.ones((64, 256), np.float32)}
    for apart in ({"short": openvino}, {"long": openvino}):
        times = race(models, feed, apart)
        assert times["short"].median_ms < times["long"].median_ms


def test_a_timing_is_median_and_quartiles() -> None:
    data = Timing((5.0, 1.0, 2.0, 3.0, 4.0)).as_data()
    assert data == {"median_ms": 3, "low_ms": 2, "high_ms": 4, "runs": 5}


def test_a_model_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    broken = products(tmp_path, "broken", 1)
    broken.path.write_bytes(b"no model")
    with pytest.raises(StepError, match=r"broken\.onnx"):
        race({"a": broken}, {"x0": np.ones((64, 256), np.float32)})


@pytest.mark.parametrize(
    ("other", "best", "quicker"),
    [
        ((1.0, 0.9, 1.1, 1.0), (2.0, 1.9, 2.1, 2.0), True),
        ((1.0, 3.0, 9.0, 1.1), (1.2, 3.5, 11.0, 1.3), True),  # a machine that is busy now and then
        ((1.0, 3.0, 1.0, 3.0), (2.0, 2.0, 2.0, 2.0), False),  # slower in every second round
        ((1.9, 1.9, 1.9, 1.9), (2.0, 2.0, 2.0, 2.0), False),  # a difference of 5 %
        ((0.01, 0.01, 0.01, 0.01), (0.1, 0.1, 0.1, 0.1), False),  # both take no time at all
    ],
)
def test_only_what_is_beyond_doubt_counts_as_quicker(
    other: tuple[float, ...], best: tuple[float, ...], quicker: bool
) -> None:
    assert is_quicker(Timing(other), Timing(best)) is quicker
