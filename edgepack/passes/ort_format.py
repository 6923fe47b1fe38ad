"""ONNX → ORT format, what ONNX Runtime's mobile and web packages load fastest and minimal builds load at all."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import warnings
from dataclasses import dataclass
from typing import ClassVar, Literal

import onnxruntime
from onnxruntime.tools.convert_onnx_models_to_ort import (
    OptimizationStyle,
    convert_onnx_models_to_ort,
)

from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.ort_bytes import canonical
from edgepack.passes.step import StepContext, StepResult


@dataclass(frozen=True, kw_only=True)
class OrtFormat:
    """onnxruntime's own converter.

    Attributes:
        style: "fixed" bakes the optimizations in (right for the CPU and wasm); "runtime" keeps the graph for providers that
            take parts of it (NNAPI, CoreML, XNNPACK, WebGPU) and saves the optimizations beside it.

    Always for the platform "arm": "amd64" bakes in NCHWc operators that only this machine's CPU kind has, and turns int8 into uint8.

    Source: onnxruntime documentation, "ORT model format"; `--target_platform` in its converter's help.
    """

    name: ClassVar[str] = "ort_format"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ORT
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False

    style: Literal["fixed", "runtime"] = "fixed"

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        printed = io.StringIO()
        written = context.folder / "written"
        logger = logging.getLogger("ort_format_model.utils")
        level = logger.level
        logger.setLevel(logging.ERROR)
        try:
            with contextlib.redirect_stdout(printed), warnings.catch_warnings():
                # The converter leaves files to the garbage collector.
                warnings.simplefilter("ignore", ResourceWarning)
                convert_onnx_models_to_ort(
                    model.path,
                    output_dir=written,
                    optimization_styles=[OptimizationStyle[self.style.capitalize()]],
                    target_platform="arm",
                )
        except Exception as error:
            raise StepError(
                f"onnxruntime's ORT converter cannot take this graph: {error}\n{printed.getvalue()}",
                "the message names the node",
            ) from error
        finally:
            logger.setLevel(level)
        made = next(written.glob("*.ort"))
        path = context.folder / f"{context.name}.ort"
        path.write_bytes(canonical(made.read_bytes()))
        result = dataclasses.replace(model, path=path, format=Format.ORT)
        facts = {"converter": onnxruntime.__version__, "style": self.style}
        return StepResult(model=result, changed=True, facts=facts)
