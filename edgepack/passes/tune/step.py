"""Make the float graph itself faster, with the same answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.passes.step import StepContext, StepResult, nearest
from edgepack.passes.tune.graph import Graph
from edgepack.passes.tune.rewrites import REWRITES


@dataclass(frozen=True, kw_only=True)
class Tune:
    """Rewrites of the main graph, exact but for float32's rounding, each done wherever it applies.

    What is quick differs by engine and machine: a profile names what was measured to be quicker where its models run. Names,
    dtypes and shapes of inputs and outputs stay. Quantized and float16 models are left alone.

    Attributes:
        rewrites: names in `rewrites.REWRITES`, in the order in which they are done.
    """

    name: ClassVar[str] = "tune"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = False

    rewrites: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError: there is no such rewrite; the message names the nearest."""
        for name in self.rewrites:
            if name not in REWRITES:
                raise ValueError(f"no rewrite {name!r}{nearest(name, list(REWRITES))}")

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        proto = onnxfile.load(model)
        if onnxfile.is_quantized(proto):
            return _unchanged(model, "a quantized model")
        if onnxfile.is_half(proto):
            return _unchanged(model, "a float16 model")
        folder = model.path.parent
        graph = Graph(proto, folder)
        counts = {}
        for name in self.rewrites:
            counts[name] = REWRITES[name](graph)
            if counts[name]:
                graph.settle()
        if not any(counts.values()):
            return StepResult(model=model, changed=False, facts=counts)
        onnxfile.trim(proto)
        path = context.folder / f"{context.name}.onnx"
        result = onnxfile.save(proto, path, folder=folder)
        return StepResult(model=result, changed=True, facts=counts)


def _unchanged(model: ModelFile, why: str) -> StepResult:
    return StepResult(model=model, changed=False, facts={"skipped": why})
