"""ONNX → ORT format, what ONNX Runtime's mobile and web packages load fastest and minimal builds load at all."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import onnx
import onnxruntime

from edgepack import onnxfile, weights
from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.ort_bytes import write_canonical
from edgepack.passes.step import StepContext, StepResult

#: The most that weights may be: 2 GiB less 128 MiB for the graph and the optimizations that are kept beside it.
LIMIT_BYTES = 2**31 - 2**27

#: The blocked layout is this machine's own; and what was left in float between integers is to stay there, not to get integer weights.
_DISABLED = ["NchwcTransformer", "WeightBiasQuantization", "BiasQuantization"]


@dataclass(frozen=True, kw_only=True)
class OrtFormat:
    """onnxruntime's own converter: a session that writes its optimized graph down.

    Attributes:
        style: "fixed" bakes the optimizations in (right for the CPU and wasm); "runtime" keeps the graph for providers that
            take parts of it (NNAPI, CoreML, XNNPACK, WebGPU) and saves the optimizations beside it.

    Always for ARM: x86's own way bakes in NCHWc operators that only this machine's CPU kind has, and turns int8 into uint8.

    Source: onnxruntime documentation, "ORT model format"; onnxruntime/tools/convert_onnx_models_to_ort.py, `--target_platform arm`, which
    sets the same options, but for the optimizers of weights and biases.
    """

    name: ClassVar[str] = "ort_format"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ORT
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = False

    style: Literal["fixed", "runtime"] = "fixed"

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        self._require_room(model)
        made = context.folder / "written.ort"
        write_ort(model, made, style=self.style)
        path = context.folder / f"{context.name}.ort"
        write_canonical(made, path)
        made.unlink()
        result = dataclasses.replace(model, path=path, format=Format.ORT, beside=())
        facts = {"converter": onnxruntime.__version__, "style": self.style}
        return StepResult(model=result, changed=True, facts=facts)

    def _require_room(self, model: ModelFile) -> None:
        """Raises StepError: the weights alone are more than the format can hold, which onnxruntime would find out by crashing."""
        if 2 * model.size_bytes <= LIMIT_BYTES:
            return
        total = 0
        for tensor in weights.tensors(onnxfile.load(model)):
            half = tensor.data_type == onnx.TensorProto.FLOAT16
            # On a CPU without float16 arithmetic the Fixed style holds float32 copies.
            total += weights.size_bytes(tensor) * (2 if half and self.style == "fixed" else 1)
        if total > LIMIT_BYTES:
            raise StepError(
                f"the model's weights are {total:,} bytes in ORT format, which ends at 2 GiB (a flatbuffer's offsets are signed 32-bit numbers)",
                "use --precision fp16 or int8, or a target that takes .onnx (edgepack targets list)",
            )


def write_ort(model: ModelFile, path: Path, *, style: Literal["fixed", "runtime"]) -> None:
    """Write what onnxruntime makes of the graph as it opens it to `path`; not the same bytes in every run.

    Raises:
        StepError: onnxruntime refuses the graph.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if style == "runtime":
        options.add_session_config_entry("optimization.minimal_build_optimizations", "save")
    try:
        onnxruntime.InferenceSession(
            str(model.path),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=_DISABLED,
        )
    except Exception as error:
        raise StepError(
            f"onnxruntime's ORT converter cannot take this graph: {error}",
            "the message names the node",
        ) from error
