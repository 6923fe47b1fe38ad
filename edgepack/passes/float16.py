"""Half precision inside, the user's dtypes at the edges."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from onnx import numpy_helper
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
        proto = onnxfile.load(model)
        clipped = _beyond_range(proto)
        with warnings.catch_warnings():
            # Older onnxruntimes warn of each weight they clip to float16's range; parity judges the effect.
            warnings.simplefilter("ignore")
            proto = convert_float_to_float16(
                proto,
                keep_io_types=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, *self.keep_float32],
            )
        onnxfile.trim(proto)
        result = onnxfile.save(proto, context.folder / f"{context.name}.onnx")
        return StepResult(model=result, changed=True, facts={"clipped_weights": clipped})


def _beyond_range(proto: onnx.ModelProto) -> int:
    """How many weights hold a finite value that float16 cannot; the converter clips those."""
    largest = np.finfo(np.float16).max
    weights = (numpy_helper.to_array(i) for i in proto.graph.initializer)
    floats = (x[np.isfinite(x)] for x in weights if x.dtype == np.float32)
    return sum(bool((np.abs(x) > largest).any()) for x in floats)
