"""Half precision inside, the user's dtypes at the edges."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.transformers.float16 import (
    DEFAULT_OP_BLOCK_LIST,
    convert_float_to_float16,
)

from edgepack import onnxfile, weights
from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.halves import half, is_beyond_half
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
    needs_measuring: ClassVar[bool] = False

    keep_float32: tuple[str, ...] = ()

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        folder = model.path.parent
        proto = onnxfile.load(model)
        if onnxfile.is_half(proto):
            return StepResult(model=model, changed=False, facts={"skipped": "float16 already"})
        if onnxfile.is_quantized(proto):
            raise StepError(
                "the model is quantized already: its scales and integers have no float16 form",
                "use --precision int8 or fp32, or give the float model it was made from",
            )
        proto = onnx.shape_inference.infer_shapes(proto)
        clipped = sum(is_beyond_half(i, folder) for i in proto.graph.initializer)
        large = _stand_in(proto)
        with warnings.catch_warnings():
            # Older onnxruntimes warn of each weight they clip to float16's range; parity judges the effect.
            warnings.simplefilter("ignore")
            proto = convert_float_to_float16(
                proto,
                keep_io_types=True,
                disable_shape_infer=True,
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, *self.keep_float32],
            )
        halved = _put_back(proto, large)
        onnxfile.trim(proto)
        result = onnxfile.save(
            proto,
            context.folder / f"{context.name}.onnx",
            folder=folder,
            arrays=((name, half(large[name], folder)) for name in halved),
        )
        return StepResult(model=result, changed=True, facts={"clipped_weights": clipped})


def _stand_in(proto: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Put one number in the place of each float32 weight that is a reference; gives the references by name.

    The converter decides by names and types alone which weights become float16, but reads all of them.
    """
    large: dict[str, onnx.TensorProto] = {}
    for tensor in proto.graph.initializer:
        if weights.is_reference(tensor) and tensor.data_type == onnx.TensorProto.FLOAT:
            large[tensor.name] = copy.deepcopy(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), tensor.name))
    return large


def _put_back(proto: onnx.ModelProto, large: Mapping[str, onnx.TensorProto]) -> list[str]:
    """Put the references back and give the names of those that are to become float16."""
    halved = []
    for tensor in proto.graph.initializer:
        if tensor.name not in large:
            continue
        if tensor.data_type == onnx.TensorProto.FLOAT16:
            halved.append(tensor.name)
        else:
            tensor.CopyFrom(large[tensor.name])
    casts = {f"{name}_cast_to_fp32": tensor for name, tensor in large.items()}
    for value in proto.graph.value_info:
        if value.name in casts:
            shaped = helper.make_tensor_type_proto(
                value.type.tensor_type.elem_type, casts[value.name].dims
            )
            value.type.CopyFrom(shaped)
    return halved
