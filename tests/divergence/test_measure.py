"""Distances, and the memory they take."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

from edgepack.divergence import measure as measure_module
from edgepack.divergence.distance import Distance, Meter
from edgepack.divergence.match import match
from edgepack.divergence.measure import chunks, measure, size_bytes
from tests.divergence.networks import broken, residual_net, side
from tests.models import BOOL, FLOAT, INT64, model, tensors, value


def distance(a: np.ndarray, b: np.ndarray) -> Distance:
    meter = Meter()
    meter.add(a, b)
    return meter.distance()


def test_the_numbers_are_those_of_their_definitions() -> None:
    rng = np.random.default_rng(0)
    a = rng.normal(1.0, 2.0, (3, 100_000)).astype(np.float32)
    b = a + rng.normal(0, 0.1, a.shape).astype(np.float32)
    x, y = a.astype(np.float64), b.astype(np.float64)
    found = distance(a, b)
    assert found.sqnr_db == pytest.approx(10 * np.log10((x**2).sum() / ((x - y) ** 2).sum()))
    assert found.max_abs == np.abs(x - y).max()
    assert found.max_rel == np.abs(x - y).max() / np.abs(x).max()
    wanted = (x * y).sum() / np.sqrt((x**2).sum() * (y**2).sum())
    assert found.cosine == pytest.approx(wanted)
    assert found.correlation == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1])


def test_feeds_add_up_to_one_long_feed() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 50))
    meter = Meter()
    for x, y in zip(a, b, strict=True):
        meter.add(x, y)
    assert vars(meter.distance()) == pytest.approx(vars(distance(a, b)))


@pytest.mark.parametrize("other", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_on_one_side_is_infinitely_far(other: float) -> None:
    found = distance(np.array([1.0, 2.0]), np.array([1.0, other]))
    assert (found.sqnr_db, found.max_abs) == (-math.inf, math.inf)


@pytest.mark.parametrize("same", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_on_both_sides_is_the_same(same: float) -> None:
    found = distance(np.array([1.0, same]), np.array([1.0, same]))
    assert (found.sqnr_db, found.max_abs, found.cosine) == (math.inf, 0.0, 1.0)


def test_nothing_against_something_has_no_decibels() -> None:
    zero, one = np.zeros(4), np.ones(4)
    assert distance(zero, one).sqnr_db == -math.inf
    assert distance(one, zero).sqnr_db == 0.0
    assert distance(zero, zero).sqnr_db == math.inf


def test_a_chunk_is_never_more_than_the_budget_unless_it_is_one_tensor() -> None:
    sizes = [3, 4, 5, 20, 1, 1, 1]
    found = list(chunks(sizes, lambda s: s, 8))
    assert [s for c in found for s in c] == sizes
    assert all(sum(c) <= 8 or len(c) == 1 for c in found)


def test_any_budget_gives_the_same_distances_and_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proto = residual_net()
    a = side(proto, tmp_path, "a")
    b = side(broken(proto, "net/block_1/project.w"), tmp_path, "b")
    pairs = [p for p in match(a, b) if p.a.layer is not None]
    whole = measure(a, b, pairs)
    held: list[int] = []
    values = measure_module.Side.values

    def watched(self, tensors):
        for arrays in values(self, tensors):
            assert [x.nbytes for x in arrays] == [size_bytes(t) for t in tensors]
            held.append(sum(x.nbytes for x in arrays))
            yield arrays

    monkeypatch.setattr(measure_module.Side, "values", watched)
    budget = 3 * max(size_bytes(p.a) for p in pairs)
    assert measure(a, b, pairs, budget_bytes=budget) == whole
    assert len(held) > 6
    assert max(held) <= budget / 2  # each side has half of it


def test_shapes_are_asked_of_the_run_where_the_graph_does_not_say(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["image"], ["where"]),
        helper.make_node("Cast", ["where"], ["floats"], to=FLOAT),
        helper.make_node("ReduceMax", ["floats"], ["y"], keepdims=0),
        helper.make_node("Reshape", ["image", "shape"], ["flat"]),
        helper.make_node("ReduceSum", ["flat"], ["z"], keepdims=0),
    ]
    proto = model(
        nodes,
        [value("image", FLOAT, ["batch", 4])],
        [value("y", FLOAT, []), value("z", FLOAT, [])],
        tensors({"shape": np.array([-1])}),
    )
    kinds = side(proto, tmp_path, "a").graph.kinds
    assert kinds["where"].shape == (2, 64 * 4)
    assert kinds["flat"].shape == (64 * 4,)
    assert kinds["y"].shape == ()


def test_what_is_no_tensor_or_no_number_is_left_out(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("SequenceConstruct", ["x", "x"], ["pair"]),
        helper.make_node("SequenceAt", ["pair", "one"], ["second"]),
        helper.make_node("Cast", ["second"], ["words"], to=onnx.TensorProto.STRING),
        helper.make_node("Cast", ["words"], ["y"], to=FLOAT),
        helper.make_node("Greater", ["x", "y"], ["more"]),
        helper.make_node("Cast", ["more"], ["z"], to=INT64),
    ]
    proto = model(
        nodes,
        [value("x", FLOAT, [1, 4])],
        [value("y", FLOAT, [1, 4]), value("z", INT64, [1, 4])],
        tensors({"one": np.array(1)}),
    )
    graph = side(proto, tmp_path, "a").graph
    assert {t.name for t in graph.tensors.values() if not t.is_number} == {"pair", "words"}
    assert graph.tensors["more"].kind.type == "tensor(bool)"
    assert BOOL == onnx.TensorProto.BOOL
