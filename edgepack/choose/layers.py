"""The layers of a quantized candidate, those that hurt most first."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

import onnx

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.choose.candidate import Candidate
from edgepack.divergence.layers import layer_errors
from edgepack.prove.engine import Tensors

#: The error of a layer that sums some thousand float32 numbers in another order.
_ROUNDING_DB = 90.0
#: Operators whose results are their input's values.
_RESHAPING = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def most_harmful(
    candidate: Candidate, prepared: ModelFile, feeds: Sequence[Tensors]
) -> tuple[str, ...]:
    """Names of the nodes of the prepared float model that add error in the candidate, the most first.

    A tensor stays in integers as long as one node that takes it multiplies integers: behind what makes it come those that take it.

    Args: prepared: the float graph as the quantizer was given it, with a name for each node.
    """
    takers = _takers(prepared)
    hurting = [
        node
        for e in layer_errors(prepared, candidate.graph, feeds)
        if e.own_sqnr_db is not None
        and math.isfinite(e.own_sqnr_db)
        # Where weights alone are quantized, or what a product takes and not what it makes, no tensor between layers is: what is no
        # rounding of float32 comes from them.
        and (e.quantized or e.own_sqnr_db < _ROUNDING_DB)
        for node in (*(e.nodes if e.operator != "Input" else ()), *takers(e.tensor))
    ]
    return tuple(dict.fromkeys(hurting))


def _takers(model: ModelFile) -> Callable[[str], list[str]]:
    """Gives names of the nodes that take a tensor as it is, or in another shape."""
    graph = onnxfile.load(model).graph
    takers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            takers[name].append(node)

    def named(tensor: str) -> list[str]:
        found = []
        for node in takers[tensor]:
            found.append(node.name)
            if node.op_type in _RESHAPING:
                found += named(node.output[0])
        return found

    return named
