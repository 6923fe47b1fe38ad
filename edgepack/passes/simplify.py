"""Fold constants and fuse what can be fused within standard ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.passes.step import StepContext, StepResult
from edgepack.prove.engine import open_session


@dataclass(frozen=True, kw_only=True)
class Simplify:
    """onnxruntime's own "basic" optimizations, saved as ONNX: constant folding, Conv + BatchNorm and the like.

    They keep to the operators of the model's domains, so any runtime can read the result.
    Source: onnxruntime documentation, "Graph optimizations in ONNX Runtime", Basic.
    """

    name: ClassVar[str] = "simplify"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        before = onnxfile.load(model)
        path = context.folder / f"{context.name}.onnx"
        open_session(model.path, save_to=path)
        after = onnx.load(path)
        added = onnxfile.node_domains(after) - onnxfile.node_domains(before)
        if added - set(onnxfile.ONNX_DOMAINS):
            return StepResult(
                model=model, changed=False, facts={"skipped": f"would add {sorted(added)}"}
            )
        onnxfile.trim(after)
        after = onnx.shape_inference.infer_shapes(after)
        facts = {"nodes_before": len(before.graph.node), "nodes_after": len(after.graph.node)}
        return StepResult(model=onnxfile.save(after, path), changed=True, facts=facts)
