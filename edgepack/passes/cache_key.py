"""A name for what a device compiles a model to, which changes with the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.passes.step import StepContext, StepResult


@dataclass(frozen=True, kw_only=True)
class CacheKey:
    """The SHA-256 of the model as it came, in its metadata, where a provider that caches compiled models looks for it.

    Put it behind every step that changes the graph: a provider that finds an equal key runs what it has, unread. 64 letters and
    digits are the most that CoreML's takes. ORT format keeps metadata.

    Attributes:
        metadata: the name that the provider reads, such as COREML_CACHE_KEY.

    Source: onnxruntime 1.29, coreml_provider_factory.h, ModelCacheDirectory and kCOREML_CACHE_KEY.
    """

    name: ClassVar[str] = "cache_key"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = False

    metadata: str = "COREML_CACHE_KEY"

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        proto = onnxfile.load(model)
        kept = [entry for entry in proto.metadata_props if entry.key != self.metadata]
        del proto.metadata_props[:]
        proto.metadata_props.extend(kept)
        proto.metadata_props.add(key=self.metadata, value=model.sha256)
        path = context.folder / f"{context.name}.onnx"
        result = onnxfile.save(proto, path, folder=model.path.parent)
        return StepResult(model=result, changed=True, facts={"key": model.sha256})
