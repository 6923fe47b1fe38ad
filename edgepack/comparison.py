"""Two models layer by layer on the same inputs: where they part, and where they are furthest apart."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack import onnxfile, ortfile
from edgepack.artifact import Dim, ModelFile
from edgepack.bundle.manifest import MANIFEST, GoldenInput, Manifest
from edgepack.bundle.open import check_files, load_manifest
from edgepack.divergence.distance import Distance
from edgepack.divergence.ends import common_inputs, fitting
from edgepack.divergence.graph import read_graph
from edgepack.divergence.match import Compared, compare
from edgepack.divergence.measure import Side
from edgepack.divergence.pairs import Pair
from edgepack.divergence.probe import Probe
from edgepack.errors import BundleError
from edgepack.intake.request import IntakeRequest
from edgepack.intake.source import open_source
from edgepack.passes.plan import ShapeRequest
from edgepack.passes.shapes import Shapes
from edgepack.progress import Progress
from edgepack.prove.golden import golden_feeds
from edgepack.samples.opening import open_samples, require_exists

#: Below how many decibels two tensors have parted, by the coarser of the two models: noise of a third of the signal where there are
#: 4-bit integers, of a tenth for 8 bits, of a hundredth in float16, of a thousandth in float32.
SQNR_BELOW_DB = {
    "int4-weights": 10.0,
    "int8": 20.0,
    "int8-weights": 20.0,
    "fp16": 40.0,
    "fp16-weights": 40.0,
    "fp32": 60.0,
}
_LANE = "diff"


@dataclass(frozen=True, kw_only=True)
class LayerDifference:
    """One tensor that both models have.

    Attributes:
        position: its place in A's topological order.
        node, operator: what makes it in A; for a model's input its name and "Input".
        tensor: what A calls it where it is made.
        seen_a, seen_b: what the consumers in A and B call the form of it that they take, and that was compared.
        outputs: names of the model's outputs that it comes out as.
        shape: in A.
        layout: how B's axes were transposed to stand as A's; empty: they were not.
        matched: "name", "structure" or "values".
        sqnr_db, max_abs, max_rel, cosine: see `Distance`; max_abs in the tensor's unit.
    """

    position: int
    node: str
    operator: str
    tensor: str
    seen_a: str
    seen_b: str
    outputs: tuple[str, ...]
    shape: tuple[int, ...]
    layout: tuple[int, ...]
    matched: str
    sqnr_db: float
    max_abs: float
    max_rel: float
    cosine: float

    @property
    def identical(self) -> bool:
        """Whether no number differs."""
        return self.sqnr_db == math.inf

    def as_json(self) -> dict[str, Any]:
        """Plain data; a number that is not finite becomes null (`identical` tells which)."""
        data = {**asdict(self), "identical": self.identical}
        return {k: _plain(v) for k, v in data.items()}


@dataclass(frozen=True, kw_only=True)
class DiffResult:
    """Every tensor that both models have, in A's topological order.

    Attributes:
        inputs: what both were given.
        sqnr_below_db: the threshold in decibels, and why it is that.
        only_a, only_b: tensors without a counterpart, by name.
    """

    a: str
    b: str
    inputs: str
    feeds: int
    sqnr_below_db: float
    because: str
    layers: tuple[LayerDifference, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]

    @property
    def first(self) -> LayerDifference | None:
        """The first tensor below the threshold: everything above it agrees."""
        return next((x for x in self.layers if x.sqnr_db < self.sqnr_below_db), None)

    @property
    def worst(self) -> LayerDifference | None:
        """The tensor with the fewest decibels."""
        return min(self.layers, key=lambda x: x.sqnr_db, default=None)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "a": self.a,
            "b": self.b,
            "inputs": self.inputs,
            "feeds": self.feeds,
            "sqnr_below_db": self.sqnr_below_db,
            "because": self.because,
            "first": self.first.as_json() if self.first else None,
            "worst": self.worst.as_json() if self.worst else None,
            "layers": [x.as_json() for x in self.layers],
            "only_a": list(self.only_a),
            "only_b": list(self.only_b),
        }


def diff(
    a: str | Path,
    b: str | Path,
    *,
    inputs: object = None,
    sqnr_below: float | None = None,
    shapes: Mapping[str, Sequence[Dim]] | None = None,
    batch: int | str | None = None,
    intake: IntakeRequest | None = None,
    progress: Progress | None = None,
) -> DiffResult:
    """Compare every tensor that two models have in common, on the same inputs, with all of onnxruntime's optimizations off.

    Of a model that is not ONNX, the ONNX it converts to is compared: TensorFlow shows nothing between its inputs and its outputs.
    Tensors are paired by name, then by their place in the graph, then by their values; what has no counterpart is listed.

    Args:
        a, b: models of any format, .ort files, or bundles.
        inputs: a .npz file, {input: array [N, …]}, or whatever else `samples.opening.open_samples` takes: up to three samples of it,
            evenly spaced. Else a bundle's golden inputs, A's before B's; else seeded noise.
        sqnr_below: decibels below which two tensors have parted; otherwise SQNR_BELOW_DB by the coarser model.
        shapes, batch: sizes of free dimensions, for `inputs` or noise (golden inputs have theirs); a free batch is 1 otherwise.
        intake: which part of a source to take, for both.

    Raises:
        ModelError, ShapeError: a model cannot be opened, or inputs or outputs differ by name, type or shape.
        DataError: inputs that do not fit. BundleError: a bundle that is damaged.
    """
    progress = progress or Progress()
    paths = (Path(a), Path(b))
    require_exists(inputs, what="inputs")
    progress.start(_LANE, 3)
    progress.stage(_LANE, "open")
    with tempfile.TemporaryDirectory(prefix="edgepack-") as scratch:
        opened = [
            _open(path, Path(scratch) / name, intake)
            for name, path in zip("ab", paths, strict=True)
        ]
        feeds, origin = _feeds(
            opened, (str(a), str(b)), inputs, shapes, batch, Path(scratch) / "inputs"
        )
        progress.stage(_LANE, "run")
        sides = [
            _side(o, Path(scratch) / f"{n}-run", feeds, origin)
            for n, o in zip("ab", opened, strict=True)
        ]
        progress.stage(_LANE, "compare")
        compared = compare(*sides)
        # A bundle knows what its graph may not show: float16 weights that were expanded.
        precision = min(
            (_precision(sides), *(o.precision for o in opened)), key=SQNR_BELOW_DB.__getitem__
        )
    result = DiffResult(
        a=str(a),
        b=str(b),
        inputs=origin,
        feeds=len(feeds),
        sqnr_below_db=SQNR_BELOW_DB[precision] if sqnr_below is None else sqnr_below,
        because=f"the coarser model is {precision}" if sqnr_below is None else "as asked",
        layers=_layers(compared, sides[0]),
        only_a=compared.left_of_a,
        only_b=compared.left_of_b,
    )
    progress.finish(_LANE, f"{len(result.layers)} tensors")
    return result


@dataclass(frozen=True, kw_only=True)
class _Opened:
    model: ModelFile
    golden: list[dict[str, NDArray[Any]]]
    precision: str


def _open(path: Path, folder: Path, intake: IntakeRequest | None) -> _Opened:
    """The model as ONNX in `folder`."""
    folder.mkdir()
    golden: list[dict[str, NDArray[Any]]] = []
    precision = "fp32"
    if (path / MANIFEST).is_file():
        manifest = load_manifest(path)
        check_files(path, manifest)
        golden, precision = _golden(path, manifest), manifest.model.precision
        path = path / manifest.model.path
    if ortfile.is_ort(path):
        made = onnxfile.save(ortfile.read(path), folder / f"{path.name}.onnx", folder=path.parent)
        return _Opened(model=made, golden=golden, precision=precision)
    source = open_source(path, folder, intake)
    try:
        model, _ = source.convert(folder / f"{path.stem}.onnx")
    finally:
        source.close()
    return _Opened(model=model, golden=golden, precision=precision)


def _golden(root: Path, manifest: Manifest) -> list[dict[str, NDArray[Any]]]:
    """The golden inputs. Raises BundleError: a file holds another number of values than the manifest says."""
    return [{x.name: _tensor(root, x) for x in case.inputs} for case in manifest.golden]


def _tensor(root: Path, x: GoldenInput) -> NDArray[Any]:
    values = np.fromfile(root / x.path, np.dtype(x.dtype).newbyteorder("<"))
    if any(isinstance(d, str) for d in x.shape) or values.size != math.prod(map(int, x.shape)):
        raise BundleError(
            f"{root}: {x.path} holds {values.size} values of {x.dtype}; the manifest says {list(x.shape)}",
            "build the bundle again",
        )
    return values.astype(x.dtype, copy=False).reshape([int(d) for d in x.shape])


def _feeds(
    opened: Sequence[_Opened],
    names: tuple[str, str],
    inputs: object,
    shapes: Mapping[str, Sequence[Dim]] | None,
    batch: int | str | None,
    folder: Path,
) -> tuple[list[dict[str, NDArray[Any]]], str]:
    """What both are given, and where it comes from."""
    common = common_inputs(opened[0].model, opened[1].model, names)
    if inputs is None and not shapes and batch is None:
        for name, side in zip(names, opened, strict=True):
            if side.golden:
                return side.golden, f"golden inputs of {name}"
    request = ShapeRequest.of(shapes, batch).applied_to(Shapes(batch=None), static=False)
    specs = Shapes(batch=1).resolve(request.resolve(common))
    if inputs is not None:
        samples = open_samples(inputs, specs=specs, folder=folder)
        named = isinstance(inputs, (str, Path))
        return golden_feeds(specs, samples), samples.source if named else "inputs given"
    return golden_feeds(specs, None), "seeded noise"


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return list(value) if isinstance(value, tuple) else value


def _side(opened: _Opened, folder: Path, feeds: Any, origin: str) -> Side:
    fitted = fitting(feeds, opened.model, origin)
    probe = Probe(opened.model, folder)
    return Side(probe, read_graph(probe, fitted[0]), fitted)


def _precision(sides: Sequence[Side]) -> str:
    """The coarser of both models' precisions."""
    tensors = [t for side in sides for t in side.graph.tensors.values()]
    if any(t.quantized for t in tensors):
        return "int8"
    kinds = {k.type for side in sides for k in side.graph.kinds.values()}
    return "fp16" if kinds & {"tensor(float16)", "tensor(bfloat16)"} else "fp32"


def _layers(compared: Compared, a: Side) -> tuple[LayerDifference, ...]:
    return tuple(_layer(p, d, a.graph.outputs.get(p.a.name, ())) for p, d in compared.pairs)


def _layer(pair: Pair, distance: Distance, outputs: tuple[str, ...]) -> LayerDifference:
    layer = pair.a.layer
    return LayerDifference(
        position=pair.a.position,
        node=layer.name if layer else pair.a.name,
        operator=layer.operator if layer else "Input",
        tensor=pair.a.name,
        seen_a=pair.a.tap.name,
        seen_b=pair.b.tap.name,
        outputs=outputs,
        shape=pair.a.kind.shape or (),
        layout=pair.axes,
        matched=pair.how.value,
        sqnr_db=distance.sqnr_db,
        max_abs=distance.max_abs,
        max_rel=distance.max_rel,
        cosine=distance.cosine,
    )
