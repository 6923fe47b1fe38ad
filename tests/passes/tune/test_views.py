"""Rewrites that move no numbers or fewer: frames of a signal, transpositions, chains of reshapings."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.passes.tune.trial import graph, node, tried


def frames(start: int, count: int, hop: int, length: int) -> np.ndarray:
    return start + hop * np.arange(count)[:, None] + np.arange(length)


def framed(indices: np.ndarray, *, axis: int = 1, x: tuple[int, ...] = (2, 400)) -> onnx.ModelProto:
    nodes = [node("Gather", "x indices", "y", axis=axis)]
    return graph(nodes, {"indices": indices.astype(np.int64)}, x=x)


@pytest.mark.parametrize(
    ("indices", "axis", "x"),
    [
        (frames(0, 10, 32, 64), 1, (2, 400)),
        (frames(5, 10, 32, 50), 1, (2, 400)),
        (frames(0, 10, 32, 20), 1, (2, 400)),
        (frames(-400, 10, 32, 112), 1, (2, 400)),
        (frames(0, 10, 32, 64), 0, (400, 3)),
    ],
    ids=["half over", "uneven", "with gaps", "to the very end", "first axis"],
)
def test_frames_at_even_distances_become_slices(
    indices: np.ndarray, axis: int, x: tuple[int, ...]
) -> None:
    trial = tried("frames", framed(indices, axis=axis, x=x))
    assert trial.count == 1
    assert "Gather" not in trial.operators
    assert trial.gap == 0


@pytest.mark.parametrize(
    "indices",
    [
        frames(0, 10, 32, 64)[:, ::-1],
        np.concatenate([frames(0, 5, 32, 64), frames(200, 5, 32, 64)]),
        frames(0, 4, 32, 64),
        frames(0, 10, 4, 64),
        np.arange(20),
    ],
    ids=["backwards", "with a leap", "few", "short hops", "one dimension"],
)
def test_other_gatherings_stay(indices: np.ndarray) -> None:
    assert tried("frames", framed(indices)).count == 0


def test_two_transpositions_become_one() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Transpose", "t", "y", perm=[0, 2, 1, 3]),
    ]
    trial = tried("transposes", graph(nodes, {}, x=(2, 3, 4, 5)))
    assert (trial.count, trial.operators) == (1, {"Transpose": 1})
    assert trial.gap == 0


def test_a_transposition_there_and_back_goes() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Transpose", "t", "u", perm=[0, 3, 1, 2]),
        node("Relu", "u", "y"),
    ]
    trial = tried("transposes", graph(nodes, {}, x=(2, 3, 4, 5)))
    assert (trial.count, trial.operators) == (1, {"Relu": 1})


def test_a_transposition_that_others_see_stays_for_them() -> None:
    nodes = [
        node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
        node("Transpose", "t", "y", perm=[0, 2, 1, 3]),
        node("Relu", "t", "z"),
    ]
    trial = tried("transposes", graph(nodes, {}, x=(2, 3, 4, 5), outputs=("y", "z")))
    assert (trial.count, trial.operators) == (1, {"Transpose": 2, "Relu": 1})
    assert trial.gap == 0


def test_a_chain_of_views_becomes_one_reshape() -> None:
    nodes = [
        node("GlobalAveragePool", "x", "p"),
        node("Squeeze", "p axes", "q"),
        node("Reshape", "q shape", "r"),
        node("Transpose", "r", "t", perm=[0, 3, 1, 2]),
        node("Relu", "t", "y"),
    ]
    constants = {
        "axes": np.array([2, 3], np.int64),
        "shape": np.array([1, 1, 1, 4], np.int64),
    }
    trial = tried("views", graph(nodes, constants))
    assert trial.count > 0
    assert trial.operators == {"GlobalAveragePool": 1, "Relu": 1}
    assert trial.gap == 0


def test_views_with_a_free_size_and_real_transpositions_stay() -> None:
    flat = [node("Flatten", "x", "f"), node("Flatten", "f", "y")]
    assert tried("views", graph(flat, {}, x=("batch", 4, 6))).count == 0
    turned = [node("Transpose", "x", "y", perm=[0, 2, 1])]
    assert tried("views", graph(turned, {}, x=(1, 4, 6))).count == 0


def test_a_view_of_an_output_keeps_the_outputs_name() -> None:
    nodes = [node("Flatten", "x", "f"), node("Reshape", "f shape", "y")]
    trial = tried("views", graph(nodes, {"shape": np.array([1, 4, 6, 6], np.int64)}))
    assert trial.gap == 0
    assert [o.name for o in trial.proto.graph.output] == ["y"]


def test_numbers_are_the_same_in_each_run() -> None:
    proto = framed(frames(0, 10, 32, 64))
    one, other = (tried("frames", proto).proto.SerializeToString(deterministic=True) for _ in "ab")
    assert one == other
