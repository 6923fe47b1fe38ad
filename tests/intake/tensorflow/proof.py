"""Open, convert and compare a TensorFlow model inside this process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgepack.intake.request import IntakeRequest
from edgepack.intake.tensorflow.convert import convert
from edgepack.intake.tensorflow.graph import TensorFlowGraph
from edgepack.intake.tensorflow.handlers import HANDLERS
from edgepack.intake.tensorflow.model import open_graph
from edgepack.passes.shapes import Shapes
from edgepack.prove.engine import answers
from edgepack.prove.golden import golden_feeds


def opened(path: Path, form: str, **request: Any) -> TensorFlowGraph:
    return open_graph(path, form, IntakeRequest(**request))


def converted(graph: TensorFlowGraph, folder: Path) -> onnx.ModelProto:
    """The ONNX model, whose answers are TensorFlow's to 1e-5."""
    path = folder / "converted.onnx"
    convert(graph, path, HANDLERS)
    feeds = golden_feeds(Shapes(batch=1).resolve(graph.inputs), None)
    for feed, given in zip(feeds, answers(path, feeds), strict=True):
        wanted = graph.run([feed[s.name] for s in graph.inputs])
        assert list(given) == [s.name for s in graph.outputs]
        for a, b in zip(given.values(), wanted, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, atol=1e-5, rtol=1e-5)
    return onnx.load(path)


def operators(proto: onnx.ModelProto) -> list[str]:
    return sorted({n.op_type for n in proto.graph.node})


def edges(graph: TensorFlowGraph) -> list[str]:
    return [str(s) for s in (*graph.inputs, *graph.outputs)]
