"""What the integers of one node alone do to the model's outputs, and which nodes in float buy most for the work they take.

A layer's own error says nothing of what the layers behind it make of it: some hide it, some enlarge it. Here each node is quantized
alone, by the target's own recipe, and the float model's outputs are what it is held against.
Source: NNCF (accuracy-aware training) and NVIDIA's pytorch-quantization (sensitivity analysis) rank layers one at a time in the same way.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgepack.artifact import ModelFile
from edgepack.calibrate.calibrator import Calibrator
from edgepack.choose.candidate import Candidate, with_options
from edgepack.errors import StepError
from edgepack.passes.int8 import Int8
from edgepack.passes.step import StepContext
from edgepack.prove.engine import Answers, Tensors, answers

#: Multiply-accumulates that one ranking may run, some tens of seconds; and nodes that are quantized alone, at most.
MOST_MACS, MOST_NODES = 2 * 10**11, 100
#: Feeds that are enough, and those below which the outputs say too little.
MOST_FEEDS, FEWEST_FEEDS = 64, 4
#: What a node in float costs besides its own arithmetic, in shares of the whole model's: a change of type before and behind it.
_BOUNDARY = 0.01


def affordable_feeds(macs: int, nodes: int) -> int:
    """How many feeds each of `nodes` variants of a model of `macs` may be run on; 0: too few to be worth it."""
    runs = min(nodes, MOST_NODES) + 1
    feeds = min(MOST_FEEDS, MOST_MACS // max(1, macs * runs))
    return feeds if feeds >= FEWEST_FEEDS else 0


def output_effects(
    candidate: Candidate,
    names: Sequence[str],
    *,
    every: Sequence[str],
    feeds: Sequence[Tensors],
    calibrator: Calibrator | None,
) -> dict[str, float]:
    """By node, of the first `MOST_NODES` of `names`: the squared error of the outputs, in shares of their squares, where it alone is quantized.

    No more than that of the whole candidate: what the integers of its neighbours would have clipped does not count.

    Args:
        every: all nodes by name, as the step's `float_nodes` calls them.

    Raises:
        StepError: onnxruntime cannot run the float model.
    """
    wanted = answers(candidate.float_graph.path, feeds)
    whole = _distance(answers(candidate.graph.path, feeds), wanted)
    effects = {}
    for name in names[:MOST_NODES]:
        others = tuple(sorted(set(every) - {name}))
        with tempfile.TemporaryDirectory(prefix="edgepack-") as folder:
            try:
                model = _quantized(candidate, others, Path(folder), calibrator)
                effects[name] = min(whole, _distance(answers(model.path, feeds), wanted))
            except StepError:
                # By itself it has nothing to quantize.
                effects[name] = 0.0
    return effects


def most_for_least(
    names: Sequence[str], effects: Mapping[str, float], cost: Mapping[str, int]
) -> tuple[str, ...]:
    """`names`, those first whose effect is largest for what they cost in float; those of unknown effect last, as they were."""
    boundary = max(1.0, _BOUNDARY * sum(cost.values()))

    def worth(name: str) -> float:
        return -effects[name] / (cost.get(name, 0) + boundary)

    known = sorted((n for n in names if n in effects), key=worth)
    return (*known, *(n for n in names if n not in effects))


def _quantized(
    candidate: Candidate, in_float: Sequence[str], folder: Path, calibrator: Calibrator | None
) -> ModelFile:
    """The float graph after the candidate's own step, these nodes left out."""
    plan = with_options(candidate.plan, {**candidate.options, "float_nodes": tuple(in_float)})
    step = next(s for s in plan.steps if s.precision == plan.precision)
    if isinstance(step, Int8):
        # What its neighbours' biases will make up for is not asked: it would take as long as all else.
        step = dataclasses.replace(step, bias_correction=False)
    context = StepContext(folder=folder, name="alone", calibrator=calibrator)
    return step.run(candidate.float_graph, context).model


def _distance(given: Answers, wanted: Answers) -> float:
    """The mean over outputs of Σ(a − b)² / Σb², over all feeds; what is not finite counts as infinite."""
    shares = []
    for name in wanted[0]:
        a, b = (
            np.stack([np.asarray(x[name], np.float64) for x in side]) for side in (given, wanted)
        )
        with np.errstate(all="ignore"):
            shares.append(float(np.sum((a - b) ** 2) / max(float(np.sum(b**2)), 1e-30)))
    mean = float(np.mean(shares))
    return mean if np.isfinite(mean) else float("inf")
