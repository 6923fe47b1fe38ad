"""A TensorFlow model that is open: converted and asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from edgepack.errors import ModelError, UsageError, first_line
from edgepack.intake.mapping import Handlers
from edgepack.intake.request import IntakeRequest
from edgepack.intake.tensorflow.convert import convert
from edgepack.intake.tensorflow.graph import TensorFlowGraph
from edgepack.intake.tensorflow.graph_def import cut, open_checkpoint, open_graph_def
from edgepack.intake.tensorflow.keras_file import open_keras
from edgepack.intake.tensorflow.saved_model import open_saved_model


class TensorFlowModel:
    """A graph and the handlers to convert it with."""

    def __init__(self, graph: TensorFlowGraph, handlers: Handlers) -> None:
        self._graph = graph
        self._handlers = handlers
        self.framework = graph.framework
        self.inputs = graph.inputs
        self.outputs = graph.outputs

    def convert(self, path: Path) -> None:
        convert(self._graph, path, self._handlers)

    def answer(self, feeds: Path, answers: Path) -> None:
        with np.load(feeds) as loaded:
            flat = [loaded[f"arr_{i}"] for i in range(len(self.inputs))]
        try:
            outputs = self._graph.run(flat)
        except Exception as error:
            shapes = ", ".join(
                f"{s.name} {list(x.shape)}" for s, x in zip(self.inputs, flat, strict=True)
            )
            raise ModelError(
                f"the source model fails on the golden inputs ({shapes}): {first_line(error)}",
                "give sizes it accepts with --shape and --batch, or real inputs with --calibration",
            ) from error
        np.savez(answers, *outputs)


def open_graph(path: Path, form: str, request: IntakeRequest) -> TensorFlowGraph:
    """The part of a model that the request asks for, open in TensorFlow.

    Raises:
        ModelError, UsageError: it cannot be read, or has no such part.
    """
    if request.signature is not None and form != "savedmodel":
        raise UsageError(
            f"--signature {request.signature}: {path.name} has no signatures", "leave it out"
        )
    if form == "graphdef":
        return open_graph_def(path, request)
    if form == "checkpoint":
        return open_checkpoint(path, request)
    if form == "savedmodel":
        graph: TensorFlowGraph = open_saved_model(path, request)
        done = not request.inputs and not request.outputs
    else:
        graph, own = open_keras(
            path, request.outputs, dict(request.shapes), trusted=request.trusted
        )
        done = not request.inputs and (own or not request.outputs)
        request = replace(request, outputs=()) if own else request
    return graph if done else cut(graph, request)
