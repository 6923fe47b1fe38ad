"""Who runs which part, in pieces that can be cut out."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Sequence

import numpy as np
import pytest
from onnx import helper

from edgepack.legality.graph import GraphView
from edgepack.legality.partition import partition, pieces, tables_of
from edgepack.legality.tables import ProviderTable, load_table
from edgepack.targets import load_file, load_target
from tests.legality.graphs import one_operator, quantized_conv, view
from tests.models import FLOAT, model, value
from tests.targets.conftest import Profile, profile  # noqa: F401  (a fixture)


def chain(*operators: str) -> GraphView:
    """A float model of one-input operators in a row."""
    nodes = [
        helper.make_node(op, [f"v{i}"], [f"v{i + 1}"], f"n{i}") for i, op in enumerate(operators)
    ]
    last = f"v{len(operators)}"
    return view(model(nodes, [value("v0", FLOAT, [1, 4])], [value(last, FLOAT, [1, 4])]))


def dag(count: int, edges: Collection[tuple[int, int]]) -> GraphView:
    """Nodes 0…count−1 that add up what comes in."""
    nodes = []
    for i in range(count):
        inputs = [f"v{a}" for a, b in sorted(edges) if b == i] or ["x"]
        nodes.append(helper.make_node("Sum", inputs, [f"v{i}"], f"n{i}"))
    outputs = [value(f"v{i}", FLOAT, [1]) for i in range(count)]
    return view(model(nodes, [value("x", FLOAT, [1])], outputs))


def table(*names: str, provider: str = "SomeExecutionProvider") -> ProviderTable:
    return ProviderTable.model_validate(
        {"provider": provider, "title": provider, "source": "-", "operators": [{"names": names}]}
    )


def acyclic(groups: Sequence[Sequence[int]], edges: Collection[tuple[int, int]]) -> bool:
    """Whether pieces as nodes make no circle: an independent check, by taking away what nobody waits for."""
    piece = {i: k for k, group in enumerate(groups) for i in group}
    left = {(piece[a], piece[b]) for a, b in edges if piece[a] != piece[b]}
    alive = set(range(len(groups)))
    while alive:
        free = {k for k in alive if not any(b == k for _, b in left)}
        if not free:
            return False
        alive -= free
        left = {(a, b) for a, b in left if a not in free}
    return True


def whole(groups: Sequence[Sequence[int]], count: int) -> list[list[int]]:
    """The pieces, and each other node alone."""
    taken = {i for g in groups for i in g}
    return [*map(list, groups), *([i] for i in range(count) if i not in taken)]


def test_a_chain_is_cut_where_an_operator_is_missing() -> None:
    graph = chain("Relu", "Abs", "Det", "Relu", "Relu")
    assert pieces(graph.nodes, {0, 1, 3, 4}) == [[0, 1], [3, 4]]
    assert pieces(graph.nodes, {0, 1, 2, 3, 4}) == [[0, 1, 2, 3, 4]]
    assert pieces(graph.nodes, set()) == []


def test_a_way_around_keeps_two_pieces_apart() -> None:
    # 0 → 1 → 2 and 0 → 2: without 1, the rest would have to run before and after it.
    edges = {(0, 1), (1, 2), (0, 2)}
    assert pieces(dag(3, edges).nodes, {0, 2}) == [[0], [2]]


def test_two_pieces_never_wait_for_each_other() -> None:
    # 0 → 4 and 1 → 5 are convex each; but 5 waits for 0 (through 2), and 4 for 1 (through 3).
    edges = {(0, 4), (1, 5), (0, 2), (2, 5), (1, 3), (3, 4)}
    found = pieces(dag(6, edges).nodes, {0, 1, 4, 5})
    assert found in ([[0, 4], [1], [5]], [[0], [1, 5], [4]])
    assert not acyclic(whole([[0, 4], [1, 5]], 6), edges)


def test_unconnected_branches_are_pieces_of_their_own() -> None:
    edges = {(0, 1), (0, 2)}
    assert pieces(dag(3, edges).nodes, {1, 2}) == [[1], [2]]


@pytest.mark.parametrize("seed", range(40))
def test_pieces_make_no_circle_cover_what_is_taken_and_cannot_be_merged_further(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(3, 12))
    edges = {(a, b) for a in range(count) for b in range(a + 1, count) if rng.random() < 0.3}
    taken = {i for i in range(count) if rng.random() < 0.7}
    found = pieces(dag(count, edges).nodes, taken)
    assert sorted(i for g in found for i in g) == sorted(taken)
    assert acyclic(whole(found, count), edges)
    for a, b in itertools.combinations(found, 2):
        if any((i, j) in edges or (j, i) in edges for i in a for j in b):
            merged = [g for g in found if g not in (a, b)] + [sorted(a + b)]
            assert not acyclic(whole(merged, count), edges)


def test_each_provider_takes_of_what_the_ones_before_left() -> None:
    graph = chain("Relu", "Abs", "Relu", "Exp")
    parts = partition(
        graph,
        {"A": table("Relu"), "B": table("Relu", "Abs"), "C": load_table("CPUExecutionProvider")},
    )
    assert [(p.operators, p.partitions) for p in parts] == [(2, 2), (1, 1), (1, 1)]
    assert [p.operator_share for p in parts] == [0.5, 0.25, 0.25]
    assert [(x.operator, len(x.nodes)) for x in parts[0].left] == [("Abs", 1), ("Exp", 1)]
    assert parts[2].left == ()


def test_shares_of_arithmetic_follow_the_heavy_operators() -> None:
    proto = one_operator(
        "MatMul", {"a": [1, 4]}, [1, 7], constants={"b": np.zeros((4, 7), np.float32)}
    )
    proto.graph.node.append(helper.make_node("Relu", ["out"], ["end"], "relu"))
    parts = partition(view(proto), {"A": table("Relu"), "B": table("MatMul")})
    assert [p.macs for p in parts] == [0, 28]
    assert [p.mac_share for p in parts] == [0.0, 1.0]


def test_a_provider_without_a_table_is_given_nothing_and_said_to_be_unknown() -> None:
    (part,) = partition(chain("Relu"), {"NewExecutionProvider": None})
    assert (part.known, part.operators, part.title) == (False, 0, "NewExecutionProvider")


def test_the_oldest_board_is_held_against_the_table_of_its_own_version() -> None:
    old, new = (tables_of(load_target(n)) for n in ("jetson-xavier", "jetson-orin"))
    assert list(old) == list(new)
    first = "TensorrtExecutionProvider"
    assert (old[first].title, new[first].title) == ("TensorRT 8.5", "TensorRT 10")  # type: ignore[union-attr]


def test_a_users_provider_has_no_table(profile: Profile) -> None:  # noqa: F811
    path = profile(
        "extends: ios-cpu",
        "title: My phone",
        "runtime: {providers: [{name: QNNExecutionProvider}, {name: CPUExecutionProvider}]}",
    )
    tables = tables_of(load_file(path))
    assert list(tables) == ["QNNExecutionProvider", "CPUExecutionProvider"]
    assert tables["QNNExecutionProvider"] is None


def test_pairs_go_with_their_operator_where_a_provider_takes_groups() -> None:
    graph = view(quantized_conv())
    table = load_table("XnnpackExecutionProvider")
    (part, rest) = partition(graph, {"X": table, "C": load_table("CPUExecutionProvider")})
    # The convolution with its three pairs' halves is one piece, the softmax another; what feeds them stays outside.
    assert (part.operators, part.partitions) == (5, 2)
    assert part.mac_share == 1.0
    assert rest.operators == len(graph.nodes) - 5


def test_pairs_are_cut_off_where_a_provider_has_only_one_half() -> None:
    parts = partition(view(quantized_conv()), {"W": load_table("WebGpuExecutionProvider")})
    left = {(x.operator, len(x.nodes)) for x in parts[0].left}
    assert left == {("QuantizeLinear", 2)}
    assert parts[0].partitions == 2
