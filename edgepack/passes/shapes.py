"""Give free dimensions their sizes."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import ClassVar

import onnx
from onnxruntime.tools.onnx_model_utils import (
    fix_output_shapes,
    make_dim_param_fixed,
    make_input_shape_fixed,
)

from edgepack import onnxfile, weights
from edgepack.artifact import Dim, Format, ModelFile, TensorSpec
from edgepack.errors import ShapeError
from edgepack.passes.step import StepContext, StepResult

_BATCH = re.compile(r"(batch.*|n|bs|b)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Fix the batch, the shapes the user gave, and refuse what the target cannot take.

    Attributes:
        batch: size of a free first dimension named like a batch; None leaves it free.
        batch_asked: the user gave `batch`: a `--shape` with another one contradicts it.
        fixed: (input, sizes) from `--shape`; `?` leaves that dimension free, a name in its place renames it.
        static: the target takes no free dimension: any left is an error that lists them all.
    """

    name: ClassVar[str] = "shapes"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = None
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = False

    batch: int | None = 1
    batch_asked: bool = False
    fixed: tuple[tuple[str, tuple[Dim, ...]], ...] = ()
    static: bool = False

    def resolve(self, inputs: tuple[TensorSpec, ...]) -> tuple[TensorSpec, ...]:
        """The inputs with their sizes filled in.

        Raises:
            ShapeError: an unknown input, a wrong rank, a size the model does not have, two sizes for one name, or a free
                dimension where `static` forbids it.
        """
        sizes = self._sizes(inputs)
        resolved = tuple(
            TensorSpec(
                name=s.name,
                dtype=s.dtype,
                shape=tuple(sizes.get(d, d) if isinstance(d, str) else d for d in s.shape),
            )
            for s in inputs
        )
        free = [s for s in resolved if s.free_dims]
        if self.static and free:
            listed = "; ".join(
                f"{s.name} [{', '.join(map(str, s.shape))}]: "
                + ", ".join(f"axis {axis} ({name})" for axis, name in s.free_dims)
                for s in free
            )
            options = " ".join(f"--shape {shlex.quote(f'{s.name}={_open(s)}')}" for s in free)
            raise ShapeError(
                f"the target takes no free dimension, and the model has: {listed}",
                f"give a size for each ?: {options} (a free batch: --batch N)",
            )
        return resolved

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        inputs = self.resolve(model.inputs)
        if inputs == model.inputs:
            return StepResult(model=model, changed=False, facts={})
        proto = onnxfile.load(model)
        sizes = self._sizes(model.inputs)
        for name, size in sizes.items():
            if isinstance(size, int):
                make_dim_param_fixed(proto.graph, name, size)
        _rename_dims(proto.graph, {n: s for n, s in sizes.items() if isinstance(s, str)})
        for spec in inputs:
            if not spec.free_dims:
                make_input_shape_fixed(proto.graph, spec.name, list(spec.shape))
        del proto.graph.value_info[:]
        lifted = weights.lift(proto)
        fix_output_shapes(proto)
        weights.lower(proto, lifted)
        proto = onnx.shape_inference.infer_shapes(proto)
        path = context.folder / f"{context.name}.onnx"
        result = onnxfile.save(proto, path, folder=model.path.parent)
        facts = {"inputs": {s.name: list(s.shape) for s in inputs}}
        return StepResult(model=result, changed=True, facts=facts)

    def _sizes(self, inputs: tuple[TensorSpec, ...]) -> dict[str, Dim]:
        """Size, or new name, by name of free dimension."""
        by_name = {s.name: s for s in inputs}
        sizes: dict[str, Dim] = {}
        for name, wanted in self.fixed:
            if name not in by_name:
                raise ShapeError(
                    f"--shape {name}: the model has no such input",
                    f"its inputs: {'; '.join(map(str, inputs))}",
                )
            for size, dim in self._pairs(by_name[name], wanted):
                if sizes.setdefault(dim, size) != size:
                    raise ShapeError(
                        f"dimension {dim!r} is given both {sizes[dim]} and {size}",
                        "dimensions of one name have one size; make --shape (and --batch) agree",
                    )
        if self.batch is not None:
            for spec in inputs:
                first = spec.shape[0] if spec.shape else None
                if not isinstance(first, str) or not _BATCH.fullmatch(first):
                    continue
                if isinstance(sizes.get(first), str) and not self.batch_asked:
                    continue  # named by --shape: it stays free
                if sizes.setdefault(first, self.batch) != self.batch and self.batch_asked:
                    raise ShapeError(
                        f"dimension {first!r} is given both {sizes[first]} and {self.batch}",
                        "make --shape and --batch agree",
                    )
        return sizes

    def _pairs(self, spec: TensorSpec, wanted: tuple[Dim, ...]) -> list[tuple[Dim, str]]:
        if len(wanted) != len(spec.shape):
            raise ShapeError(
                f"--shape {spec.name}={_text(wanted)} has {len(wanted)} dimensions, "
                f"the model's {spec.name} has {len(spec.shape)}: {list(spec.shape)}",
                f"write it as {_text(spec.shape)} with sizes for the names",
            )
        pairs: list[tuple[Dim, str]] = []
        for axis, (size, dim) in enumerate(zip(wanted, spec.shape, strict=True)):
            if isinstance(dim, str):
                if size not in ("?", dim):
                    pairs.append((size, dim))
            elif size != dim:
                raise ShapeError(
                    f"--shape {spec.name}={_text(wanted)}: axis {axis} is fixed to {dim} by the model",
                    f"write it as {_text(spec.shape)}",
                )
        return pairs


def _rename_dims(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in names:
                dim.dim_param = names[dim.dim_param]


def _text(shape: tuple[Dim, ...]) -> str:
    return "x".join(map(str, shape))


def _open(spec: TensorSpec) -> str:
    """The shape as `--shape` takes it, with `?` where a size is missing."""
    return "x".join("?" if isinstance(d, str) else str(d) for d in spec.shape)
