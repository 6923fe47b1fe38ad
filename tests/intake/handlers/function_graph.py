"""A TensorFlow function as the model that the intake opened: frozen, converted and asked as any other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from numpy.typing import NDArray

from edgepack.artifact import TensorSpec
from edgepack.intake.tensorflow.convert import convert
from edgepack.intake.tensorflow.freeze import freeze_function
from edgepack.intake.tensorflow.graph import Frozen, spec
from edgepack.intake.tensorflow.handlers import HANDLERS

Array = NDArray[Any]
#: issue 3's bar.
ATOL, RTOL = 1e-4, 1e-3


class FunctionGraph:
    """A function of flat inputs, traced for their shapes."""

    framework = "tensorflow"
    layers: tuple[str, ...] = ()

    def __init__(
        self,
        function: Callable[..., Any],
        feeds: Sequence[Array],
        shapes: Sequence[Sequence[int | None]],
    ) -> None:
        def flat(*inputs: Any) -> list[Any]:
            return list(tf.nest.flatten(function(*inputs)))

        given = [tf.TensorSpec(s, x.dtype) for s, x in zip(shapes, feeds, strict=True)]
        self._traced = tf.function(flat, input_signature=given).get_concrete_function()
        self.inputs = self._named("x", self._traced.inputs[: len(feeds)])
        self.outputs = self._named("y", self._traced.outputs)

    def _named(self, letter: str, tensors: Sequence[Any]) -> tuple[TensorSpec, ...]:
        return tuple(spec(f"{letter}{i}", t.shape, t.dtype) for i, t in enumerate(tensors))

    def run(self, feeds: Sequence[Array]) -> list[Array]:
        return [o.numpy() for o in self._traced(*map(tf.constant, feeds))]

    def freeze(self) -> Frozen:
        return freeze_function(self._traced, len(self.inputs))


def agree(
    function: Callable[..., Any], *feeds: Any, shapes: Sequence[Sequence[int | None]] | None = None
) -> onnx.ModelProto:
    """The converted function, after it answered `feeds` as TensorFlow does, with fixed sizes and with free ones (or with `shapes`).

    Law: |a − b| ≤ 1e-4 + 1e-3·|b|, with the same shapes and types.
    """
    arrays = [np.asarray(x) for x in feeds]
    free = [[None] * x.ndim for x in arrays]
    model = onnx.ModelProto()
    for given in [shapes] if shapes else [free, [x.shape for x in arrays]]:
        graph = FunctionGraph(function, arrays, given)
        model = converted(graph)
        _same(_answers(model, arrays), graph.run(arrays))
    return model


def converted(graph: FunctionGraph) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        convert(graph, path, HANDLERS)
        return onnx.load(path)


def _answers(model: onnx.ModelProto, feeds: Sequence[Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    named = {f"x{i}": x for i, x in enumerate(feeds)}
    return list(session.run(None, {i.name: named[i.name] for i in session.get_inputs()}))


def _same(answers: Sequence[Array], expected: Sequence[Array]) -> None:
    assert len(answers) == len(expected)
    for a, b in zip(answers, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=ATOL, rtol=RTOL)
