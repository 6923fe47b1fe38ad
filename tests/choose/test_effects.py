"""Which nodes a search keeps in float first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from edgepack.cache import Cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose.candidate import Candidate
from edgepack.choose.effects import (
    MOST_FEEDS,
    MOST_MACS,
    affordable_feeds,
    most_for_least,
    output_effects,
)
from edgepack.passes.plan import ShapeRequest, make_plans
from edgepack.prove.engine import answers
from edgepack.samples.opening import open_samples
from edgepack.stages import StageRunner
from edgepack.targets import load_target
from tests.legality.graphs import model, tensors, value
from tests.models import wrap


def forked() -> onnx.ModelProto:
    """Two convolutions, equally hard to quantize; what the one makes is a thousandth of the output."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, 3, 3, 3)).astype(np.float32)
    arrays = {
        "w1": weight,
        "w2": weight[::-1].copy(),
        "small": np.array([1e-3], np.float32),
        "half": np.array([0.5], np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w1"], ["loud"], "loud", pads=[1] * 4),
        # A tensor of its own: integers that one node takes are what all take.
        helper.make_node("Mul", ["image", "half"], ["dimmed"], "dim"),
        helper.make_node("Conv", ["dimmed", "w2"], ["c2"], "hushed", pads=[1] * 4),
        helper.make_node("Mul", ["c2", "small"], ["quiet"], "scale"),
        helper.make_node("Add", ["loud", "quiet"], ["sum"], "sum"),
        helper.make_node("GlobalAveragePool", ["sum"], ["pooled"], "pool"),
        helper.make_node("Softmax", ["pooled"], ["probabilities"], "softmax", axis=1),
    ]
    return model(
        nodes,
        [value("image", TensorProto.FLOAT, [1, 3, 16, 16])],
        [value("probabilities", TensorProto.FLOAT, [1, 4, 1, 1])],
        tensors(arrays),
    )


def effects(target: str, precision: str, folder: Path, names: list[str]) -> dict[str, float]:
    (plan,) = make_plans(
        load_target(target),
        requested=precision,
        calibrated=True,
        shapes=ShapeRequest(),
        atol=10.0,
        rtol=None,
    )
    start = wrap(forked(), folder)
    data = np.random.default_rng(1).random((8, 3, 16, 16)).astype(np.float32)
    samples = open_samples(data, specs=start.inputs, folder=folder / "samples")
    calibrator = Calibrator(samples, folder / "calibration", Cache(folder=None))
    feeds = [{"image": x[None]} for x in data]
    stages = folder / "stages"
    stages.mkdir()
    runner = StageRunner(stages, "net", feeds[:1], answers(start.path, feeds[:1]), calibrator, {})
    candidate = Candidate(plan=plan, options={}, stages=runner.run(plan, start), measured=None)
    every = [n.name for n in onnx.load(candidate.float_graph.path).graph.node]
    assert set(names) <= set(every)
    return output_effects(candidate, names, every=every, feeds=feeds, calibrator=calibrator)


@pytest.mark.parametrize("target", ["android", "jetson-orin"])
def test_a_layer_is_as_harmful_as_the_outputs_show(tmp_path: Path, target: str) -> None:
    """Both lose the same by themselves: only what comes behind tells them apart."""
    found = effects(target, "int8", tmp_path, ["hushed", "loud"])
    assert found["loud"] > 100 * found["hushed"] > 0


def test_a_node_without_anything_to_quantize_has_no_effect(tmp_path: Path) -> None:
    assert effects("android", "int8", tmp_path, ["softmax"]) == {"softmax": 0.0}


def test_the_node_that_buys_most_for_its_work_comes_first() -> None:
    ranked = most_for_least(
        ["large", "small", "idle"],
        {"large": 4.0, "small": 2.0, "idle": 0.0},
        {"large": 900, "small": 100, "idle": 0},
    )
    assert ranked == ("small", "large", "idle")


def test_a_node_without_arithmetic_is_not_worth_more_than_one_that_hurts() -> None:
    ranked = most_for_least(["add", "conv"], {"add": 1e-6, "conv": 1.0}, {"add": 0, "conv": 1000})
    assert ranked == ("conv", "add")


def test_nodes_of_unknown_effect_keep_their_order_behind_the_others() -> None:
    assert most_for_least(["a", "b", "c"], {"b": 0.1}, {"a": 1, "b": 1, "c": 1}) == ("b", "a", "c")


def test_a_large_model_is_run_on_fewer_feeds_and_a_very_large_one_on_none() -> None:
    assert affordable_feeds(1_000_000, 30) == MOST_FEEDS
    assert 0 < affordable_feeds(300_000_000, 60) < MOST_FEEDS
    assert affordable_feeds(MOST_MACS // 10, 60) == 0
