"""What each layer of a quantized model adds to the error by itself."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgepack.artifact import ModelFile
from edgepack.divergence.distance import Distance, Meter
from edgepack.divergence.graph import Graph, Tensor, read_graph
from edgepack.divergence.islands import Island, Sea, island
from edgepack.divergence.match import compare
from edgepack.divergence.measure import BUDGET_BYTES, Side, chunks, size_bytes, turned
from edgepack.divergence.pairs import Match, Pair
from edgepack.divergence.probe import Probe
from edgepack.prove.engine import Tensors


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """One layer of the float model, and what became of it in the other.

    Attributes:
        node, operator: the float model's; for a model's input that is quantized its name and "Input".
        nodes: the float model's nodes whose error this is: `node`, and before it those that the other model has no tensor in between of
            (a Conv whose Relu was taken into it).
        tensor: the layer's output that this is about, in the float model.
        own_sqnr_db: decibels of the error that the layer adds itself: its float version, given what the other model's layer is given,
            against what the other model makes of it. Infinite: it adds nothing. None: it cannot be run by itself (it has a subgraph, or
            is made from something that has).
        sqnr_db: decibels of the whole error at its output, all layers above it included.
        input_sqnr_db: the worst of its inputs; infinite where they are exact or weights only.
        quantized: integers stand for its output or one of its inputs in the other model.
    """

    node: str
    nodes: tuple[str, ...]
    operator: str
    tensor: str
    own_sqnr_db: float | None
    sqnr_db: float
    input_sqnr_db: float
    quantized: bool

    @property
    def drop_db(self) -> float:
        """Decibels lost from the worst input to the output; 0 where nothing is lost, infinite where the inputs were exact."""
        if self.input_sqnr_db == self.sqnr_db:
            return 0.0
        return max(0.0, self.input_sqnr_db - self.sqnr_db)

    def as_json(self) -> dict[str, Any]:
        """Plain data; a number that is not finite becomes null."""
        data = {**asdict(self), "drop_db": self.drop_db}
        return {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in data.items()
        }


def layer_errors(
    float_model: ModelFile,
    other: ModelFile,
    feeds: Sequence[Tensors],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> list[LayerError]:
    """The layers of `float_model` that `other` has too, the one that adds most error by itself first.

    A layer's own error is measured, not guessed from a drop: its float operator and weights are run on the values that stand at its
    counterpart's inputs in `other` (dequantized), and the result is what `other`'s output is held against. What quantizing an output
    loses counts to the layer that makes it; what quantizing a model's input loses is an entry of its own. Where `other` has no
    counterpart of something the layer takes, the layer that makes it is run with it.

    Args:
        float_model, other: ONNX files (`Format.ONNX`).
        feeds: the same inputs for both; memory holds one feed's tensors up to `budget_bytes` at a time.

    Raises:
        StepError: onnxruntime cannot open or run one of them.
    """
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        sides = []
        for name, model in (("a", float_model), ("b", other)):
            probe = Probe(model, Path(scratch) / name)
            sides.append(Side(probe, read_graph(probe, feeds[0]), feeds))
        a, b = sides
        compared = compare(a, b)
        known = {pair.a.name: (pair, distance) for pair, distance in compared.pairs}
        known |= {t.name: _same(t, b.graph) for t in _plain_inputs(a.graph, b.graph, known)}
        islands = [i for i in (island(a.graph, n, known) for n in known) if i is not None]
        own = _own_errors(a, b, islands, {n: pair for n, (pair, _) in known.items()}, budget_bytes)
        by_tensor = {i.tensor: i for i in islands}
        errors = [
            _error(pair, distance, by_tensor.get(pair.a.name), own.get(pair.a.name), known)
            for pair, distance in compared.pairs
        ]
    return sorted(errors, key=_rank)


def _error(
    pair: Pair,
    distance: Distance,
    island: Island | None,
    own: Distance | None,
    known: dict[str, tuple[Pair, Distance]],
) -> LayerError:
    layer = pair.a.layer
    nodes: tuple[str, ...]
    given: list[tuple[Pair, Distance]]
    if layer is None:
        nodes, given, own = (pair.a.name,), [], distance
    elif island is None:
        nodes, given = (layer.name,), [known[n] for _, n in layer.inputs if n in known]
    else:
        nodes = tuple(x.name for x in island.layers)
        given = [known[n] for n in island.needs]
    return LayerError(
        node=layer.name if layer else pair.a.name,
        nodes=nodes,
        operator=layer.operator if layer else "Input",
        tensor=pair.a.name,
        own_sqnr_db=None if own is None else own.sqnr_db,
        sqnr_db=distance.sqnr_db,
        input_sqnr_db=min((d.sqnr_db for _, d in given), default=math.inf),
        quantized=any(p.b.quantized for p in (pair, *(p for p, _ in given))),
    )


def _rank(error: LayerError) -> tuple[bool, float]:
    own = error.own_sqnr_db
    return own is None, math.inf if own is None else own


def _plain_inputs(a: Graph, b: Graph, known: dict[str, Any]) -> list[Tensor]:
    """Inputs of the model that both take as they are: nothing to compare, but something to take from."""
    return [
        t
        for t in a.tensors.values()
        if t.layer is None and t.name in b.tensors and t.name not in known
    ]


def _same(tensor: Tensor, b: Graph) -> tuple[Pair, Distance]:
    exact = Distance(sqnr_db=math.inf, max_abs=0.0, max_rel=0.0, cosine=1.0, correlation=1.0)
    return Pair(a=tensor, b=b.tensors[tensor.name], how=Match.NAME, axes=()), exact


def _own_errors(
    a: Side, b: Side, islands: Sequence[Island], pairs: dict[str, Pair], budget_bytes: int
) -> dict[str, Distance]:
    """By output tensor of A."""

    def held(i: Island) -> int:
        return sum(2 * size_bytes(a.graph.tensors[n]) for n in (*i.needs, i.tensor))

    result: dict[str, Distance] = {}
    for chunk in chunks(islands, held, budget_bytes):
        sea = Sea(a, chunk)
        names = [i.tensor for i in chunk]
        needed = list(dict.fromkeys([*sea.needs, *names]))
        meters = {n: Meter() for n in names}
        values = b.values([pairs[n].b for n in needed])
        for _ in b.feeds:
            found = {n: turned(x, pairs[n].axes) for n, x in zip(needed, next(values), strict=True)}
            for name, wanted in sea.run(found).items():
                meters[name].add(wanted, found[name])
            del found, wanted
        result |= {n: m.distance() for n, m in meters.items()}
    return result
