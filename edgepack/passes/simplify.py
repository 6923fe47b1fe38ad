"""Fold constants and fuse what can be fused within standard ONNX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import onnx

from edgepack import onnxfile, skeleton, weights
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
    needs_measuring: ClassVar[bool] = False

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        before = onnxfile.load(model)
        if onnxfile.is_half(before):
            # On a CPU without float16 arithmetic onnxruntime widens such a graph, and would save that.
            skipped = "a float16 model, which this machine would widen"
            return StepResult(model=model, changed=False, facts={"skipped": skipped})
        written = context.folder / f"{context.name}.optimized.onnx"
        # Folding constants may double what the graph holds.
        apart = 2 * model.size_bytes > weights.INLINE_LIMIT_BYTES
        open_session(model.path, save_to=written, weights_apart=apart)
        after = skeleton.read(written)
        if apart:
            _tidy(after)
        added = onnxfile.node_domains(after) - onnxfile.node_domains(before)
        if added - set(onnxfile.ONNX_DOMAINS):
            return StepResult(
                model=model, changed=False, facts={"skipped": f"would add {sorted(added)}"}
            )
        onnxfile.trim(after)
        after = onnx.shape_inference.infer_shapes(after)
        facts = {"nodes_before": len(before.graph.node), "nodes_after": len(after.graph.node)}
        path = context.folder / f"{context.name}.onnx"
        result = onnxfile.save(after, path, folder=context.folder)
        for file in context.folder.glob(f"{written.name}*"):
            file.unlink()
        return StepResult(model=result, changed=True, facts=facts)


def _tidy(model: onnx.ModelProto) -> None:
    """Attributes by name: in this form onnxruntime writes them in the order of a hash map, and fields that say nothing."""
    for graph in weights.graphs(model):
        for node in graph.node:
            attributes = sorted(node.attribute, key=lambda a: a.name)
            del node.attribute[:]
            node.attribute.extend(attributes)
    for tensor in weights.tensors(model):
        if not tensor.doc_string:
            tensor.ClearField("doc_string")
