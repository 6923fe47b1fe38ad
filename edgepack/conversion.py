"""Any format in, ONNX out, proved equal: intake and shapes alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.artifact import Dim, ModelFile
from edgepack.intake.request import IntakeRequest, with_shapes
from edgepack.intake.source import open_source
from edgepack.passes.opset import Opset
from edgepack.passes.plan import ShapeRequest
from edgepack.passes.shapes import Shapes
from edgepack.passes.step import StepContext
from edgepack.progress import Progress
from edgepack.prove.engine import answers
from edgepack.prove.golden import golden_feeds
from edgepack.prove.parity import Parity, compare, require
from edgepack.targets import Tolerance
from edgepack.workspace import publish, refuse_existing, workspace

#: Conversion alone is float32 arithmetic in another order.
TOLERANCE = Tolerance(atol=1e-4, rtol=1e-3)
_LANE = "convert"


@dataclass(frozen=True, kw_only=True)
class ConvertResult:
    """The ONNX file and how far it is from the source framework."""

    path: Path
    model: ModelFile
    framework: str
    parity: tuple[Parity, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": str(self.path),
            "size": self.model.size_bytes,
            "opset": self.model.opset,
            "framework": self.framework,
            "inputs": [vars(s) for s in self.model.inputs],
            "outputs": [vars(s) for s in self.model.outputs],
            "parity": [p.as_json() for p in self.parity],
        }


def convert(
    model: str | Path,
    output: str | Path,
    *,
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    batch: int | str | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    opset: int | None = None,
    intake: IntakeRequest | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> ConvertResult:
    """Write `model` as ONNX to `output`, with the user's names and free dimensions where no size is given.

    Args:
        opset: the version of ONNX's operators to convert to; otherwise 17, or what an ONNX model has.
        intake: which part of the model to take, and how; all of it otherwise.

    Raises:
        EdgepackError: one of its kinds; ParityError where the ONNX model answers differently.
    """
    path, final = Path(model), Path(output)
    progress = progress or Progress()
    refuse_existing([final], overwrite=overwrite)
    step = ShapeRequest.of(shapes, batch).applied_to(Shapes(batch=None), static=False)
    tolerance = Tolerance(
        atol=TOLERANCE.atol if atol is None else atol, rtol=TOLERANCE.rtol if rtol is None else rtol
    )
    with workspace(final.parent) as folder:
        progress.start(_LANE, 3)
        progress.stage(_LANE, "open")
        source = open_source(path, folder, with_shapes(intake, shapes))
        try:
            specs = step.resolve(source.inputs)
            # Where the file keeps a dimension free, the proof still needs a size.
            feeds = golden_feeds(Shapes(batch=1).resolve(specs), None)
            progress.stage(_LANE, "convert")
            whole, shaped = folder / "converted", folder / "shaped"
            whole.mkdir()
            shaped.mkdir()
            converted, _ = source.convert(whole / final.name)
            wanted = source.answer(feeds)
            framework, rounding = source.framework, source.rounding
        finally:
            # The framework's memory goes before onnxruntime takes its own.
            source.close()
        progress.stage(_LANE, "compare")
        context = StepContext(folder=shaped, name=final.stem, calibrator=None)
        result = step.run(converted, context).model
        if opset is not None:
            moved_to = folder / "opset"
            moved_to.mkdir()
            again = StepContext(folder=moved_to, name=final.stem, calibrator=None)
            result = Opset(minimum=opset, maximum=opset).run(result, again).model
        parity = compare(wanted, answers(result.path, feeds), tolerance, rounding)
        require(parity, stage=_LANE, where=path.name, precision="fp32")
        moved = result.moved_to(final)
        refuse_existing(moved.beside, overwrite=overwrite)
        files = zip((result.path, *result.beside), (final, *moved.beside), strict=True)
        publish(list(files), aside=folder)
    progress.finish(_LANE, framework)
    return ConvertResult(path=final, model=moved, framework=framework, parity=parity)
