"""The gate on real models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from edgepack.artifact import ModelFile
from edgepack.choose.gate import Gate
from edgepack.choose.setup import Wishes, make_gate
from edgepack.errors import DataError
from edgepack.prove.accuracy import metric
from edgepack.prove.engine import Tensors, answers
from edgepack.samples.opening import open_samples
from tests.models import conv_model, images, wrap


@pytest.fixture
def model(tmp_path: Path) -> ModelFile:
    return wrap(conv_model(batch=1), tmp_path)


def shifted(model: ModelFile, folder: Path) -> ModelFile:
    """The model with another bias in its last layer: class 3 nearly always."""
    proto = onnx.load(model.path)
    (bias,) = [i for i in proto.graph.initializer if i.name == "bias"]
    values = numpy_helper.to_array(bias).copy()
    values[3] += 100
    bias.CopyFrom(numpy_helper.from_array(values, "bias"))
    return wrap(proto, folder, "shifted")


def feeds(count: int = 20) -> list[Tensors]:
    return [{"image": x[None]} for x in images(count, seed=5)]


def gate_with(labels: list[Any] | None, max_drop: float) -> Gate:
    def both() -> Iterator[tuple[Tensors, NDArray[Any] | None]]:
        known = labels if labels is not None else [None] * 20
        return iter(zip(feeds(), known, strict=True))

    return Gate(
        metric=None if labels is None else metric("top1"),
        max_drop=max_drop,
        feeds=both,
        samples=20,
        origin="test",
        digest="0" * 64,
    )


def test_without_labels_agreement_with_the_float_model_is_measured(
    model: ModelFile, tmp_path: Path
) -> None:
    same = gate_with(None, 1.0).measured(model, model)
    assert (same.score, same.reference, same.drop, same.holds) == (100.0, 100.0, 0.0, True)
    gate = gate_with(None, 1.0)
    other = gate.measured(shifted(model, tmp_path), model)
    assert other.drop > 1.0
    assert not other.holds
    assert gate.judged_by == {"probabilities": "classes"}
    assert (other.output, other.judged_by) == ("probabilities", "classes")


def test_with_labels_the_drop_is_from_the_float_models_own_score(
    model: ModelFile, tmp_path: Path
) -> None:
    said = [a["probabilities"].argmax(axis=1) for a in answers(model.path, feeds())]
    half = [label if i % 2 else (label + 1) % 10 for i, label in enumerate(said)]
    measured = gate_with(half, 0.5).measured(model, model)
    assert (measured.score, measured.reference, measured.drop) == (50.0, 50.0, 0.0)
    assert measured.holds
    worse = gate_with(said, 0.5).measured(shifted(model, tmp_path), model)
    assert worse.reference == 100.0
    assert worse.drop == 100.0 - worse.score > 0.5
    assert not worse.holds


def test_a_score_that_is_no_number_never_holds(model: ModelFile, tmp_path: Path) -> None:
    proto = onnx.load(model.path)
    (bias,) = [i for i in proto.graph.initializer if i.name == "bias"]
    bias.CopyFrom(numpy_helper.from_array(np.full(10, np.nan, np.float32), "bias"))
    broken = wrap(proto, tmp_path, "broken")
    labels = [np.zeros((1, 10), np.float32)] * 20
    gate = gate_with(labels, 1e9)
    mse = Gate(
        metric=metric("mse"),
        max_drop=1e9,
        feeds=gate.feeds,
        samples=20,
        origin="test",
        digest="0" * 64,
    )
    assert not mse.measured(broken, model).holds
    with pytest.raises(DataError, match="the float model's own mse is nan"):
        mse.measured(model, broken)


def test_evaluation_data_come_before_calibration_data(model: ModelFile, tmp_path: Path) -> None:
    calibration = open_samples(images(8), specs=model.inputs, folder=tmp_path / "c")
    labelled = open_samples(
        {"image": images(6), "labels": np.arange(6)},
        specs=model.inputs,
        folder=tmp_path / "e",
        labelled=True,
    )
    gate = make_gate(Wishes(), calibration, model.inputs)
    assert gate is not None
    assert (gate.name, gate.unit, gate.max_drop, gate.samples) == ("agreement", "points", 1.0, 8)
    gate = make_gate(Wishes(evaluation=labelled, max_drop=2.0), calibration, model.inputs)
    assert gate is not None
    assert (gate.name, gate.max_drop, gate.samples) == ("top1", 2.0, 6)
    assert make_gate(Wishes(), None, model.inputs) is None


def test_the_float_models_score_is_taken_once_for_all_candidates(
    model: ModelFile, tmp_path: Path
) -> None:
    gate = gate_with([np.zeros(1, np.int64)] * 20, 0.5)
    read = 0

    def counted() -> Iterator[tuple[Tensors, NDArray[Any] | None]]:
        nonlocal read
        read += 1
        return gate.feeds()

    counting = dataclasses.replace(gate, feeds=counted)
    first = counting.measured(model, model)
    once = read
    second = counting.measured(shifted(model, tmp_path), model)
    assert first.reference == second.reference
    assert read - once == once // 2
