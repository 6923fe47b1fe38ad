"""Weights in half the bytes, arithmetic in float32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.step import StepContext, StepResult
from edgepack.passes.stored import Storage


@dataclass(frozen=True, kw_only=True)
class Float16Weights:
    """Weights as float16, cast to float32 once, when a session is created.

    Attributes:
        smallest: numbers below which a weight stays in float32.
    """

    name: ClassVar[str] = "float16_weights"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = "fp16-weights"
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = False

    smallest: int = 256

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        storage = Storage(model, smallest=self.smallest)
        kept = sum(not storage.as_float16(weight) for weight in storage.weights())
        if not storage.counts["float16"]:
            raise StepError(
                "no weight of this model can be stored as float16: all are small, or beyond its range",
                "use --precision fp32",
            )
        facts = {"float16_weights": storage.counts["float16"], "beyond_float16": kept}
        result = storage.save(context.folder / f"{context.name}.onnx")
        return StepResult(model=result, changed=True, facts=facts)
