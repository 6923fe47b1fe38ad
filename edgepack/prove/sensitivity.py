"""How far a model's answers move when its inputs move by nothing: what no other kernel, CPU or device can be held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from edgepack.prove.engine import Tensors, answers
from edgepack.runtimes import Provider

#: Another engine rounds in every layer, not at the input alone.
_MARGIN = 2.0


def sensitivity(
    path: Path,
    feeds: Sequence[Tensors],
    given: Sequence[Tensors],
    engine: Provider | None = None,
    known: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, float]:
    """By output, twice the most that an element moved over all feeds when every float input went up by one unit in its last place.

    Most nets move by less than float32 resolves. MediaPipe's pose_landmark moves by 0.67 in heat maps of up to 1492: so do its answers
    between two sets of kernels on one machine.

    Args:
        path: an .onnx or .ort file.
        given: its answers to `feeds`.
        engine: what gave them; None: onnxruntime.
        known: by output, what rounding is known to move it by at least.

    Raises:
        StepError: onnxruntime cannot open or run it.
    """
    moved = answers(path, [_nudged(feed) for feed in feeds], engine=engine)
    most = {name: known.get(name, 0.0) for name in (given[0] if given else ())}
    for before, after in zip(given, moved, strict=True):
        for name, a in before.items():
            if a.size and np.issubdtype(a.dtype, np.floating):
                with np.errstate(invalid="ignore"):  # ∞ − ∞
                    gap = np.abs(a.astype(np.float64) - after[name])
                most[name] = max(most[name], _MARGIN * float(gap[np.isfinite(gap)].max(initial=0)))
    return most


def _nudged(feed: Tensors) -> Tensors:
    exact = (np.float32, np.float64)
    # Of a scalar, numpy's functions give a number that is no array.
    return {
        k: np.asarray(np.nextafter(x, x.dtype.type(np.inf))) if x.dtype in exact else x
        for k, x in feed.items()
    }
