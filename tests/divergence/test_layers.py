"""The error that each layer adds by itself."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.divergence.distance import Meter
from edgepack.divergence.layers import LayerError, layer_errors
from edgepack.divergence.probe import Probe, Tap
from edgepack.passes.float16 import Float16
from edgepack.passes.int8 import Int8
from edgepack.prove.golden import golden_feeds
from tests.divergence.networks import broken, renamed, residual_net, samples
from tests.models import run_step, wrap


@pytest.fixture
def start(tmp_path: Path) -> ModelFile:
    return wrap(residual_net(), tmp_path, "float")


@pytest.fixture
def quantized(start: ModelFile, tmp_path: Path) -> ModelFile:
    return run_step(Int8(), start, tmp_path, samples()).model


def errors(a: ModelFile, b: ModelFile) -> dict[str, LayerError]:
    return {e.tensor: e for e in layer_errors(a, b, golden_feeds(a.inputs, None))}


def test_the_layer_whose_weights_are_ruined_comes_first_though_all_below_it_are_as_far_off(
    start: ModelFile, quantized: ModelFile, tmp_path: Path
) -> None:
    proto = onnx.load(quantized.path)
    name = "net/block_1/expand.w_scale"
    (scale,) = [t for t in proto.graph.initializer if t.name == name]
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(0.75), name))
    ruined = wrap(proto, tmp_path, "ruined")
    found = layer_errors(start, ruined, golden_feeds(start.inputs, None))
    assert found[0].tensor == "net/block_1/expand_relu"
    assert found[0].nodes == ("net/block_1/expand", "net/block_1/expand_relu")
    assert found[0].own_sqnr_db is not None
    assert found[0].own_sqnr_db < 20
    by_tensor = {e.tensor: e for e in found}
    below = by_tensor["net/block_1/depthwise_relu"]
    assert below.sqnr_db < 20
    assert below.own_sqnr_db is not None
    assert below.own_sqnr_db > 30


def test_the_own_error_is_the_float_layer_on_the_other_models_inputs(
    start: ModelFile, quantized: ModelFile, tmp_path: Path
) -> None:
    """Once by hand: the Gemm's inputs out of the quantized graph, its float weight out of the other."""
    feeds = golden_feeds(start.inputs, None)
    probe = Probe(quantized, tmp_path / "by hand")
    taps = [Tap(name=f"net/{n}_DequantizeLinear_Output") for n in ("flat", "logits")]
    weights = {t.name: numpy_helper.to_array(t) for t in onnx.load(start.path).graph.initializer}
    meter = Meter()
    for flat, logits in probe.values(taps, probe.kinds(feeds[0]), feeds):
        meter.add(flat @ weights["head.w"], logits)
    found = errors(start, quantized)["net/logits"]
    assert found.own_sqnr_db == pytest.approx(meter.distance().sqnr_db, abs=0.01)


def test_they_are_ranked_and_cover_every_tensor_in_common(
    start: ModelFile, quantized: ModelFile
) -> None:
    found = layer_errors(start, quantized, golden_feeds(start.inputs, None))
    own = [math.inf if e.own_sqnr_db is None else e.own_sqnr_db for e in found]
    assert own == sorted(own)
    nodes = {n for e in found for n in e.nodes}
    assert nodes == {n.name for n in onnxfile.load(start).graph.node} | {"image"}
    (image,) = [e for e in found if e.operator == "Input"]
    assert 40 < (image.own_sqnr_db or 0.0) < 60
    json.dumps([e.as_json() for e in found], allow_nan=False)


def test_a_layer_left_in_float_adds_nothing(start: ModelFile, tmp_path: Path) -> None:
    # A corrected bias would make up for what the layers above it have left over.
    recipe = Int8(float_operators=("Softmax", "Gemm"), bias_correction=False)
    made = run_step(recipe, start, tmp_path, samples()).model
    found = errors(start, made)["net/logits"]
    assert found.own_sqnr_db is not None
    assert found.own_sqnr_db > 100
    assert found.sqnr_db < 60


def test_a_half_layer_adds_the_rounding_of_its_type(start: ModelFile, tmp_path: Path) -> None:
    found = errors(start, run_step(Float16(), start, tmp_path).model)
    own = [e.own_sqnr_db for t, e in found.items() if t.endswith(("expand", "project"))]
    assert all(x is not None and 55 < x < 90 for x in own)


def test_names_need_not_be_the_same(start: ModelFile, tmp_path: Path) -> None:
    other, _ = renamed(broken(residual_net(), "net/block_2/depthwise.w", 1.2))
    found = layer_errors(start, wrap(other, tmp_path, "other"), golden_feeds(start.inputs, None))
    assert found[0].node == "net/block_2/depthwise"
    # Scaled by 1.2 a tensor (its bias aside) is off by a fifth of itself: 20·log10(5) = 14 dB.
    assert found[0].own_sqnr_db == pytest.approx(14, abs=0.5)
    assert all((e.own_sqnr_db or 0) > 100 for e in found[1:])


def test_any_budget_gives_the_same_errors(start: ModelFile, quantized: ModelFile) -> None:
    feeds = golden_feeds(start.inputs, None)
    assert layer_errors(start, quantized, feeds, budget_bytes=50_000) == layer_errors(
        start, quantized, feeds
    )
