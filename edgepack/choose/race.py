"""Which of several models is quickest on this machine: interleaved runs of each, one thread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgepack.artifact import ModelFile
from edgepack.prove.apart import open_apart
from edgepack.prove.engine import Tensors, create_session, session_options
from edgepack.runtimes import Provider

#: Rounds in which each model runs once, and the time after which no further round begins.
_ROUNDS, _LONGEST_S = 200, 6.0
_WARM_UPS, _FEWEST = 3, 7
#: The matrix product that tells how quick integers are here: [_ROWS, _SIDE] · [_SIDE, _SIDE].
_ROWS, _SIDE = 64, 512


@dataclass(frozen=True)
class Timing:
    """Milliseconds of CPU time that one model's runs took, one a round: the rounds are the same for all models of a race.

    Of one thread it is what a run takes on a machine that does nothing else; the wall's clock would count what others do meanwhile.
    """

    times_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """What half of the runs took at most."""
        return statistics.median(self.times_ms)

    def shares_of(self, other: Timing) -> tuple[float, float]:
        """This model's time as a share of the other's, round by round: the median, and what three quarters of the rounds took at most.

        A round's runs stand side by side: what slows the whole machine for a while slows both.
        """
        shares = [a / b for a, b in zip(self.times_ms, other.times_ms, strict=True)]
        _, median, high = statistics.quantiles(shares, n=4, method="inclusive")
        return median, high

    def as_data(self) -> dict[str, float]:
        """Median, quartiles about it, and the number of runs."""
        low, median, high = statistics.quantiles(self.times_ms, n=4, method="inclusive")
        return {"median_ms": median, "low_ms": low, "high_ms": high, "runs": len(self.times_ms)}


def race(
    models: Mapping[str, ModelFile],
    feed: Tensors,
    engines: Mapping[str, Provider | None] | None = None,
) -> dict[str, Timing]:
    """Time of each model on one feed, one thread, runs interleaved (A B C A B C …).

    Args: engines: providers with a runtime of their own, by model; onnxruntime's CPU provider runs all others.

    Raises:
        StepError: onnxruntime, or the engine, cannot open or run one.
    """
    apart = engines or {}
    sessions = {}
    for name, file in models.items():
        engine = apart.get(name)
        sessions[name] = open_apart(file.path, engine) if engine else _open(file.path)
    outputs = {name: [o.name for o in file.outputs] for name, file in models.items()}
    return _timed(sessions, outputs, feed, longest_s=_LONGEST_S)


def _timed(
    sessions: Mapping[str, Any],
    names: Mapping[str, list[str]],
    feed: Tensors,
    *,
    longest_s: float,
) -> dict[str, Timing]:
    taken: dict[str, list[float]] = {name: [] for name in sessions}
    inputs = dict(feed)
    for name, session in sessions.items():
        for _ in range(_WARM_UPS):
            session.run(names[name], inputs)
    start = time.perf_counter()
    for done in range(_ROUNDS):
        if done >= _FEWEST and time.perf_counter() - start > longest_s:
            break
        for name, session in sessions.items():
            # The caches held the others; on a device they hold the model.
            session.run(names[name], inputs)
            begun = time.process_time()
            session.run(names[name], inputs)
            taken[name].append((time.process_time() - begun) * 1e3)
    return {name: Timing(tuple(times)) for name, times in taken.items()}


def integers_are_quick() -> bool:
    """Whether this machine's CPU multiplies matrices quicker in int8 than in float32.

    One without integer dot products (x86 before VNNI) does not, whatever the model: its timings say nothing of a device that has
    them, as ARM CPUs do since 2018 (Armv8.4's SDOT).
    """
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(_SIDE, _SIDE)).astype(np.float32)
    kinds = {"int8": True, "float32": False}
    times = _timed(
        {kind: _open(_product(weight, quantized=int8)) for kind, int8 in kinds.items()},
        {kind: ["y"] for kind in kinds},
        {"x": rng.normal(size=(_ROWS, _SIDE)).astype(np.float32)},
        longest_s=0.5,
    )
    return times["int8"].median_ms < times["float32"].median_ms


def _product(weight: NDArray[np.float32], *, quantized: bool) -> bytes:
    """x · weight, both sides in int8 or in float32."""
    scale = np.float32(np.abs(weight).max() / 127)
    integers = np.round(weight / scale).astype(np.int8)
    tensors: dict[str, Any] = {
        "scale": scale,
        "zero": np.int8(0),
        "unit": np.float32(4 / 127),
    }
    tensors |= {"w8": integers} if quantized else {"w": weight}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    if quantized:
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "unit", "zero"], ["x8"]),
            helper.make_node("DequantizeLinear", ["x8", "unit", "zero"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w8", "scale", "zero"], ["wd"]),
            helper.make_node("MatMul", ["xd", "wd"], ["yf"]),
            helper.make_node("QuantizeLinear", ["yf", "unit", "zero"], ["y8"]),
            helper.make_node("DequantizeLinear", ["y8", "unit", "zero"], ["y"]),
        ]
    shape = [_ROWS, _SIDE]
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(t), name) for name, t in tensors.items()],
    )
    opsets = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return bytes(proto.SerializeToString())


def _open(model: Path | bytes) -> Any:
    name = model.name if isinstance(model, Path) else "a matrix product"
    return create_session(model, session_options(timed=True), name)
