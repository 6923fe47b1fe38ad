"""Half precision inside, the user's dtypes at the edges."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.passes.step import StepContext, StepResult


@dataclass(frozen=True, kw_only=True)
class Float16:
    """Weights and arithmetic in float16, with the casts in the graph: inputs and outputs keep their dtypes.

    TensorRT 11 has no `--fp16` any more; a graph that says what it wants is right for every version.

    Attributes:
        keep_float32: operator types left in float32, besides onnxruntime's own list of those without float16 kernels.
    """

    name: ClassVar[str] = "float16"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = "fp16"
    needs_calibration: ClassVar[bool] = False

    keep_float32: tuple[str, ...] = ()

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        with warnings.catch_warnings(record=True) as caught:
            # onnxruntime warns of each weight it clips to float16's range; parity judges the effect.
            warnings.simplefilter("always")
            proto = convert_float_to_float16(
                onnxfile.load(model),
                keep_io_types=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, *self.keep_float32],
            )
        clipped = sum("truncated" in str(w.message) for w in caught)
        onnxfile.trim(proto)
        result = onnxfile.save(proto, context.folder / f"{context.name}.onnx")
        return StepResult(model=result, changed=True, facts={"clipped_weights": clipped})
