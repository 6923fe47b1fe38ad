"""One run over the samples for each model, and what is remembered of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgepack.artifact import ModelFile
from edgepack.cache import Cache
from edgepack.calibrate import calibrator as calibrator_module
from edgepack.calibrate.calibrator import Calibrator, observe
from edgepack.prove.activations import activations
from edgepack.samples.opening import open_samples
from tests.models import conv_model, images, model, tensors, value, wrap


@pytest.fixture
def start(tmp_path: Path) -> ModelFile:
    return wrap(conv_model(batch=1), tmp_path)


def calibrator_for(start: ModelFile, folder: Path, cache: Cache, data: np.ndarray) -> Calibrator:
    samples = open_samples(data, specs=start.inputs, folder=folder / "samples")
    return Calibrator(samples, folder, cache)


def test_every_float_tensor_is_observed(start: ModelFile, tmp_path: Path) -> None:
    found = calibrator_for(start, tmp_path / "a", Cache(folder=None), images(4)).observed(start)
    seen = found.observation.values
    assert {"image", "nchw", "conv", "relu", "logits", "probabilities"} <= set(seen)
    assert seen["relu"].lowest == 0.0
    assert seen["image"].histogram.total == 4 * 64
    assert found.observation.samples == 4


def test_what_is_seen_does_not_depend_on_how_much_is_fetched_at_once(
    start: ModelFile, tmp_path: Path
) -> None:
    prepared = (
        calibrator_for(start, tmp_path / "a", Cache(folder=None), images(2))
        .observed(start)
        .prepared
    )
    names, feeds = ["nchw", "conv", "relu", "logits"], [{"image": x[None]} for x in images(2)]
    whole = list(activations(prepared, names, feeds))
    parted = list(activations(prepared, names, feeds, budget_bytes=1))
    assert (len(whole), len(parted)) == (2, 8)
    for i, feed in enumerate(whole):
        for name, array in feed.items():
            part = next(p for p in parted[4 * i : 4 * i + 4] if name in p)
            assert np.allclose(array, part[name], atol=1e-6)


def test_a_second_build_runs_nothing(
    start: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache(folder=tmp_path / "cache")
    first = calibrator_for(start, tmp_path / "a", cache, images(4)).observed(start)

    def never(*_: object) -> None:
        raise AssertionError("the model was run again")

    monkeypatch.setattr(calibrator_module, "observe", never)
    again = calibrator_for(start, tmp_path / "b", cache, images(4)).observed(start)
    assert again.observation.to_bytes() == first.observation.to_bytes()
    with pytest.raises(AssertionError):
        calibrator_for(start, tmp_path / "c", cache, images(5)).observed(start)


@pytest.mark.parametrize("damage", ["cut", "flipped", "another's"])
def test_a_damaged_cache_entry_is_made_again(start: ModelFile, tmp_path: Path, damage: str) -> None:
    cache = Cache(folder=tmp_path / "cache")
    calibrator_for(start, tmp_path / "a", cache, images(4)).observed(start)
    (entry,) = [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    whole = entry.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 0x10
    entry.write_bytes(
        {"cut": whole[:100], "flipped": bytes(flipped), "another's": b"PK\x03\x04"}[damage]
    )
    calibrator_for(start, tmp_path / "b", cache, images(4)).observed(start)
    assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_stops_nothing(start: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(folder=tmp_path / "file")
    assert (
        calibrator_for(start, tmp_path / "a", cache, images(2)).observed(start).observation.values
    )


def test_the_prepared_model_has_a_name_for_each_node(tmp_path: Path) -> None:
    proto = conv_model(batch=1)
    for node in proto.graph.node:
        node.name = ""
    start = wrap(proto, tmp_path)
    made = calibrator_for(start, tmp_path / "a", Cache(folder=None), images(2)).observed(start)
    names = calibrator_module.node_names(made.prepared)
    assert "" not in names
    assert len(names) == len(proto.graph.node)


def test_observing_twice_gives_the_same(start: ModelFile, tmp_path: Path) -> None:
    samples = open_samples(images(3), specs=start.inputs, folder=tmp_path / "samples")
    prepared = Calibrator(samples, tmp_path / "a", Cache(folder=None)).observed(start).prepared
    assert observe(prepared, samples).to_bytes() == observe(prepared, samples).to_bytes()


def test_a_loop_that_asks_no_condition_is_prepared(tmp_path: Path) -> None:
    """onnxruntime's symbolic shape inference ends with KeyError: '' at the input that is left out, which ONNX allows."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Relu", ["state"], ["next"]),
        ],
        "body",
        [
            value("turn", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("state", TensorProto.FLOAT, [1, 4]),
        ],
        [value("on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, [1, 4])],
    )
    proto = model(
        [
            helper.make_node("MatMul", ["x", "w"], ["product"]),
            helper.make_node("Loop", ["turns", "", "product"], ["y"], body=body),
        ],
        [value("x", TensorProto.FLOAT, [1, 4])],
        [value("y", TensorProto.FLOAT, [1, 4])],
        tensors({"w": np.eye(4, dtype=np.float32), "turns": np.array(2, np.int64)}),
    )
    start = wrap(proto, tmp_path)
    data = np.random.default_rng(0).random((3, 4), np.float32)
    found = calibrator_for(start, tmp_path / "a", Cache(folder=None), data).observed(start)
    assert "product" in found.observation.values
