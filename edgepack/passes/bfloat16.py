"""Arithmetic in bfloat16, which the provider does: the graph stays as it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.step import StepContext, StepResult


@dataclass(frozen=True, kw_only=True)
class BFloat16:
    """The float32 model, for a provider that is told to multiply in bfloat16 (`provider_options` of the precision).

    Eight bits of a number remain, with float32's range. The file is a float32 one, and gives float32's answers where the provider cannot
    be had.
    """

    name: ClassVar[str] = "bfloat16"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = "bf16"
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = True

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        proto = onnxfile.load(model)
        if onnxfile.is_quantized(proto) or onnxfile.is_half(proto):
            raise StepError(
                "the model is quantized or float16 already: there is no float32 product in it to do in bfloat16",
                "use --precision auto, or give the float32 model it was made from",
            )
        return StepResult(model=model, changed=False, facts={})
