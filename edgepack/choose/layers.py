"""The layers of a quantized candidate, those that hurt most first."""

from __future__ import annotations

import math
from collections.abc import Sequence

from edgepack.artifact import ModelFile
from edgepack.choose.candidate import Candidate
from edgepack.divergence.layers import layer_errors
from edgepack.prove.engine import Tensors

#: The error of a layer that sums some thousand float32 numbers in another order.
_ROUNDING_DB = 90.0


def most_harmful(
    candidate: Candidate, prepared: ModelFile, feeds: Sequence[Tensors]
) -> tuple[str, ...]:
    """Names of the nodes of the prepared float model that add error in the candidate, the most first.

    Args: prepared: the float graph as the quantizer was given it.
    """
    errors = layer_errors(prepared, candidate.graph, feeds)
    hurting = [
        node
        for e in errors
        if e.operator != "Input"
        and e.own_sqnr_db is not None
        and math.isfinite(e.own_sqnr_db)
        # Where weights alone are quantized no tensor between layers is: what is no rounding of float32 comes from them.
        and (e.quantized or e.own_sqnr_db < _ROUNDING_DB)
        for node in e.nodes
    ]
    return tuple(dict.fromkeys(hurting))
