"""Another version of the default operator set, where a device's runtime ends before the model's or begins after it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgepack import onnxfile
from edgepack.artifact import Format, ModelFile
from edgepack.opsets import at_opset, format_of
from edgepack.passes.step import StepContext, StepResult


@dataclass(frozen=True, kw_only=True)
class Opset:
    """onnx's own version converter, on a graph without its weights.

    Operators of other domains stay as they are. One that the older set does not have is written out in simpler ones where ONNX
    defines it by them (Gelu, LayerNormalization, HardSwish, …).

    Attributes:
        minimum, maximum: the oldest and the newest version that the device takes. A model within them is left alone, but for the
            version of the file format, which is lowered to the one that belongs to `maximum`.
    """

    name: ClassVar[str] = "opset"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = False

    minimum: int = 1
    maximum: int | None = None

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        proto = onnxfile.load(model)
        now = onnxfile.opset(proto)
        wanted = max(now, self.minimum)
        if self.maximum is not None:
            wanted = min(wanted, self.maximum)
        facts = {"from": now, "to": wanted}
        version = proto.ir_version
        if self.maximum is not None:
            version = min(version, max(4, format_of(self.maximum)))
        # A model of other domains alone (ai.onnx.ml) has no version to change.
        if now in (0, wanted) and version == proto.ir_version:
            return StepResult(model=model, changed=False, facts={"from": now, "to": now})
        if now not in (0, wanted):
            proto = at_opset(proto, wanted)
        proto.ir_version = version
        onnxfile.trim(proto)
        path = context.folder / f"{context.name}.onnx"
        result = onnxfile.save(proto, path, folder=model.path.parent)
        return StepResult(model=result, changed=True, facts=facts)
