"""The nodes of a candidate that loses too much, in the order in which a search keeps them in float."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from edgepack.artifact import ModelFile
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose.candidate import Candidate
from edgepack.choose.effects import affordable_feeds, most_for_least, output_effects
from edgepack.choose.layers import most_harmful
from edgepack.errors import ParityError, StepError
from edgepack.legality.graph import GraphView, Node
from edgepack.legality.macs import node_macs, total_macs
from edgepack.passes.stored import node_name
from edgepack.prove.engine import Tensors
from edgepack.stages import StageRunner


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """What makes the order.

    Attributes:
        runner, converted: what built the candidates, and from what.
        feeds: golden inputs; own errors are measured on them, and effects where there is no calibrator.
        say: is told what takes time.
    """

    runner: StageRunner
    converted: ModelFile
    calibrator: Calibrator | None
    feeds: Sequence[Tensors]
    say: Callable[[str], None]

    def order(self, candidate: Candidate) -> Sequence[str]:
        """Names, those first that buy most for their work in float; of a model too large for that, those that add the most error.

        Empty where the model is wrong before anything is quantized.
        """
        precision = candidate.plan.precision
        self.say(f"{precision}: which layers hurt")
        try:
            candidate = self._looked_into(candidate)
        except (ParityError, StepError):
            return ()
        prepared = self._named(candidate)
        names = most_harmful(candidate, prepared, self.feeds)
        graph = GraphView.of(prepared)
        count = affordable_feeds(total_macs(graph), len(names))
        if not count:
            return names
        self.say(f"{precision}: what each layer alone does to the outputs")
        effects = output_effects(
            candidate,
            names,
            every=[node_name(node.proto) for node in graph.nodes],
            feeds=self._some_feeds(prepared, count),
            calibrator=self.calibrator,
        )
        return most_for_least(names, effects, self.cost(candidate))

    def cost(self, candidate: Candidate) -> Mapping[str, int]:
        """Of leaving a node in float, by name: multiply-accumulates; where weights alone are quantized, how many it has."""
        try:
            candidate = self._looked_into(candidate)
        except (ParityError, StepError):
            return {}
        graph = GraphView.of(self._named(candidate))
        if candidate.plan.needs_calibration:
            return {node_name(node.proto): node_macs(node, graph) or 0 for node in graph.nodes}
        # Arithmetic stays as it is: what a layer in float costs is the size of its weights.
        return {node_name(n.proto): _weight_elements(n, graph) for n in graph.nodes}

    def _looked_into(self, candidate: Candidate) -> Candidate:
        """The candidate; one whose answers were too far off, with the stages that were not let through.

        Raises ParityError or StepError: it is wrong before anything is quantized.
        """
        if candidate.stages:
            return candidate
        stages = self.runner.run(candidate.plan, self.converted, prove_all=False)
        return dataclasses.replace(candidate, stages=stages)

    def _named(self, candidate: Candidate) -> ModelFile:
        """The float graph, its nodes called as the search's options call them."""
        if candidate.plan.needs_calibration and self.calibrator is not None:
            return self.calibrator.observed(candidate.float_graph).prepared
        return candidate.float_graph

    def _some_feeds(self, model: ModelFile, count: int) -> Sequence[Tensors]:
        if self.calibrator is None:
            return self.feeds[:count]
        return self.calibrator.samples.spread_feeds(model.inputs, count)


def _weight_elements(node: Node, graph: GraphView) -> int:
    shapes = [graph.shape(name) or () for name in node.inputs if graph.is_constant(name)]
    return sum(math.prod(d for d in shape if isinstance(d, int)) for shape in shapes if shape)
