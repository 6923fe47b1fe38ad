"""ONNX in: the source framework is onnxruntime itself, with every optimization off."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.errors import ModelError, StepError
from edgepack.intake.canonical import name_free_dims
from edgepack.intake.confined import Confined
from edgepack.intake.leftovers import refuse_leftovers
from edgepack.intake.onnx_checks import OLDEST_OPSET, UPDATED_OPSET, open_checked, plain, updated
from edgepack.intake.onnx_child import read_named, write_named
from edgepack.intake.onnx_cut import cut
from edgepack.intake.request import IntakeRequest
from edgepack.prove.engine import Answers, Tensors, answers

#: What a float16 model may be off by when its arithmetic is done in another order or width, as a share of an output's largest
#: value: some twenty roundings of 2^-11, the share that targets/_base.yaml allows float16.
HALF_ROUNDING = 1e-2
#: What integer kernels may at most be off from the graph's own words (integers times their scales, in float), as a share of an output's
#: largest value: the share that targets/_base.yaml allows INT8. (Ten Convs on noise: 8 %.)
KERNEL_ROUNDING = 0.3


class OnnxSource:
    """A checked ONNX file. It is run in a child process, which is confined (confine.py): a graph may be a bomb, or never end."""

    format = "onnx"

    def __init__(self, path: Path, request: IntakeRequest, folder: Path) -> None:
        """Raises ModelError: not a valid ONNX model, its external data lie outside its folder, or it has no such part."""
        self.path = path
        self._folder = folder
        self._child: Confined | None = None
        self.rounding: dict[str, float] = {}
        self.framework = f"onnxruntime {onnxruntime.__version__}"
        self._proto = open_checked(path)
        self._made: ModelFile | None = None
        #: What answers: the file itself, or, if it is too old for onnxruntime, what it was converted to.
        self._runs: Path | None = path
        if 0 < onnxfile.opset(self._proto) < OLDEST_OPSET:
            self._runs = None
            self.framework += f" (operator set {onnxfile.opset(self._proto)} as {UPDATED_OPSET})"
        self.beside = onnxfile.external_files(self._proto, path)
        if request.inputs or request.outputs:
            # The file itself cannot be asked for a part: the part answers, unoptimized, once it was written.
            self._proto = cut(self._proto, request.inputs, request.outputs)
            self._runs = None
            self.framework += ", a part of the file"
        refuse_leftovers(self._proto)
        name_free_dims(self._proto)
        wrapped = onnxfile.wrap(self._proto, path)
        self.inputs, self.outputs = wrapped.inputs, wrapped.outputs
        if not self.inputs:
            raise ModelError(f"{path} has no inputs", "give a model with at least one input")

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        proto = plain(copy.deepcopy(self._proto), self.path.parent)
        if 0 < onnxfile.opset(proto) < OLDEST_OPSET:
            proto = updated(proto, self.path)
        onnxfile.trim(proto)
        made = onnxfile.save(proto, path, folder=self.path.parent)
        self._runs = self._runs or made.path
        self._made = made
        return made, ()

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        if self._runs is None:
            raise ValueError(
                "a part of a file, or one of so old an operator set, answers once it was converted"
            )
        child = self._opened(self._runs)
        given = [self._answer(child, i, feed) for i, feed in enumerate(feeds)]
        if onnxfile.is_half(self._proto):
            for answer in given:
                for name, x in answer.items():
                    largest = float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) if x.size else 0.0
                    self.rounding[name] = max(self.rounding.get(name, 0.0), HALF_ROUNDING * largest)
        if onnxfile.is_quantized(self._proto) and self._made is not None:
            self._allow_for_kernels(self._made.path, feeds)
        return given

    def _allow_for_kernels(self, path: Path, feeds: Sequence[Tensors]) -> None:
        """onnxruntime makes integer kernels of Q/DQ pairs, which round where the pairs' own arithmetic ends just below: a step of an
        integer in each of many layers."""
        spoken, fused = (answers(path, feeds, optimize=optimize) for optimize in (False, True))
        for a, b in zip(spoken, fused, strict=True):
            for name, x in a.items():
                if not np.issubdtype(x.dtype, np.floating) or not x.size:
                    continue
                off = np.abs(x.astype(np.float64) - b[name])
                most = KERNEL_ROUNDING * float(np.abs(x[np.isfinite(x)]).max(initial=0.0))
                step = min(float(off[np.isfinite(off)].max(initial=0.0)), most)
                self.rounding[name] = max(self.rounding.get(name, 0.0), step)

    @property
    def guards(self) -> tuple[str, ...]:
        return self._child.guards if self._child is not None else ()

    def close(self) -> None:
        if self._child is not None:
            self._child.close()

    def _opened(self, path: Path) -> Confined:
        """The child, in which the model at `path` is open."""
        if self._child is None:
            self._child = Confined(
                self._folder,
                name=self.path.name,
                framework="onnxruntime",
                read=[self.path, *self.beside],
                environment={"ORT_DISABLE_TELEMETRY": "1"},
                kinds=[StepError],
            )
            request = IntakeRequest().as_json()
            self._child.send(do="open", path=str(path), format="onnx", request=request)
            self._child.receive()
        return self._child

    def _answer(self, child: Confined, number: int, feed: Tensors) -> dict[str, NDArray[Any]]:
        to, back = self._folder / f"feed-{number}.npz", self._folder / f"answer-{number}.npz"
        made = child.outbox / back.name
        write_named(to, dict(feed))
        child.send(do="answer", **{"from": str(to), "to": str(made)})
        child.receive()
        child.take(made, back)
        return read_named(back)
