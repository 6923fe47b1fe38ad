"""Channels that nothing is taken of."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.tune.trial import CLOSE, graph, node, random, tried


def unread(outputs: int, *channels: int, tiny: float = 1e-33) -> np.ndarray:
    """A kernel of 8 inputs, some of which it takes (next to) nothing of."""
    kernel = random(outputs, 8, 3, 3, seed=outputs)
    kernel[:, list(channels)] *= np.float32(tiny)
    return kernel


NODES = [node("Conv", "x first bias", "c"), node("Relu", "c", "r"), node("Conv", "r second", "y")]
CONSTANTS = {"first": random(8, 4, 3, 3), "bias": random(8), "second": unread(5, 0, 6)}


def widths(trial_proto: object) -> list[int]:
    initializers = {i.name: list(i.dims) for i in trial_proto.graph.initializer}
    return [initializers[n.input[1]][0] for n in trial_proto.graph.node if n.op_type == "Conv"]


@pytest.mark.parametrize("tiny", [0.0, 1e-33, 1e-40])
@pytest.mark.parametrize("clamp", ["Relu", None])
def test_channels_that_nothing_is_taken_of_are_not_made(clamp: str | None, tiny: float) -> None:
    nodes = NODES if clamp else [NODES[0], node("Conv", "c second", "y", pads=[1] * 4)]
    constants = CONSTANTS | {"second": unread(5, 0, 6, tiny=tiny)}
    trial = tried("unread", graph(nodes, constants, x=(1, 4, 12, 12)))
    assert (trial.count, widths(trial.proto)) == (1, [6, 5])
    assert trial.gap < CLOSE


def test_a_channel_that_one_of_two_takes_is_made() -> None:
    nodes = [*NODES, node("Conv", "r third", "z")]
    constants = CONSTANTS | {"third": unread(3, 6, 7)}
    trial = tried("unread", graph(nodes, constants, x=(1, 4, 12, 12), outputs=("y", "z")))
    assert (trial.count, widths(trial.proto)) == (1, [7, 5, 3])
    assert trial.gap < CLOSE


def test_a_chain_loses_channels_at_every_link() -> None:
    nodes = [*NODES[:2], node("Conv", "r second", "d"), node("Conv", "d third", "y")]
    constants = CONSTANTS | {"second": unread(8, 0, 6), "third": unread(3, 1, 2, 3)}
    trial = tried("unread", graph(nodes, constants, x=(1, 4, 12, 12)))
    assert (trial.count, widths(trial.proto)) == (2, [6, 5, 3])
    assert trial.gap < CLOSE


@pytest.mark.parametrize(
    ("nodes", "constants", "outputs"),
    [
        (NODES, {"second": unread(5)}, ("y",)),
        (NODES, {"second": unread(5, 0, tiny=1e-20)}, ("y",)),
        (NODES, {"second": unread(5, *range(8))}, ("y",)),
        (NODES, {}, ("y", "r")),
        (NODES, {}, ("y", "c")),
        ([*NODES, node("Sigmoid", "r", "z")], {}, ("y", "z")),
        (
            [*NODES[:2], node("Conv", "r second", "y", group=8)],
            {"second": unread(8, 0)[:, :1] * np.float32(0)},
            ("y",),
        ),
        ([NODES[0], node("Sigmoid", "c", "r"), NODES[2]], {}, ("y",)),
    ],
    ids=[
        *("all taken", "little", "none taken", "an output", "an output before the clamp"),
        *("something else takes it", "depthwise", "another activation"),
    ],
)
def test_other_channels_stay(
    nodes: list, constants: dict[str, np.ndarray], outputs: tuple[str, ...]
) -> None:
    proto = graph(nodes, CONSTANTS | constants, x=(1, 4, 12, 12), outputs=outputs)
    assert tried("unread", proto).count == 0
