"""A frozen TensorFlow graph → ONNX, with tf2onnx and our handlers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import onnx

from edgepack import onnxfile
from edgepack.errors import ModelError
from edgepack.intake.canonical import number_names, set_edges
from edgepack.intake.leftovers import refuse_leftovers
from edgepack.intake.tensorflow.graph import TensorFlowGraph, first_line
from edgepack.intake.tensorflow.handlers import REWRITERS
from edgepack.intake.tensorflow.weights import fold_weights

#: The newest that TensorRT 8.5 (JetPack 5) reads and tf2onnx 1.17 writes without gaps.
OPSET = 17

#: tf2onnx's form of a handler: `handler(graph, node, name, arguments)`, and its arguments.
Handlers = Mapping[str, tuple[Any, list[Any]]]


def convert(graph: TensorFlowGraph, path: Path, handlers: Handlers) -> None:
    """Write ONNX with the user's names, named free dimensions, and names that do not change from run to run.

    Raises:
        ModelError: tf2onnx fails, or leaves operators that ONNX does not have; every one is listed.
    """
    import tensorflow as tf

    frozen = graph.freeze()
    inputs = [*frozen.inputs, *frozen.weights]
    with tf.Graph().as_default() as inner:
        tf.import_graph_def(frozen.graph_def, name="")
        proto = run_tf2onnx(
            inner, handlers, input_names=inputs, output_names=list(dict.fromkeys(frozen.outputs))
        )
    refuse_leftovers(proto, graph.layers)
    set_edges(
        proto,
        list(zip(frozen.inputs, graph.inputs, strict=True)),
        list(zip(frozen.outputs, graph.outputs, strict=True)),
    )
    weights = fold_weights(proto.graph, frozen.weights)
    renamed = number_names(proto, list(weights))
    onnxfile.trim(proto)
    named = sorted((renamed[n], read) for n, read in weights.items() if n in renamed)
    onnxfile.save(proto, path, arrays=((name, read()) for name, read in named))


def run_tf2onnx(graph: Any, handlers: Handlers, **arguments: Any) -> onnx.ModelProto:
    """What tf2onnx makes of a graph, at `OPSET`.

    Raises:
        ModelError: it fails; every node it names is in the error.
    """
    import tf2onnx
    from tf2onnx import tfonnx

    failures = _Failures()
    try:
        mapped = partial(
            tfonnx.process_tf_graph,
            graph,
            continue_on_error=False,
            opset=OPSET,
            custom_op_handlers=dict(handlers),
            custom_rewriter=list(REWRITERS),
            **arguments,
        )
        proto: onnx.ModelProto = _optimized(mapped).make_model("edgepack")
    except ModelError:
        raise
    except Exception as error:
        said = "; ".join(failures.lines) or first_line(error)
        raise ModelError(
            f"tf2onnx {tf2onnx.__version__} cannot convert this model: {said}",
            "rewrite that layer, register a handler (--op-handler module:function), or end the model before it (--outputs)",
        ) from error
    finally:
        failures.close()
    return proto


def _optimized(mapped: Callable[[], Any]) -> Any:
    """The graph after tf2onnx's optimizers.

    Left to catch errors, they copy the whole graph before each of a few dozen passes (a third of all time for ConvNeXt): only
    a graph on which one fails is mapped again and goes that way.
    """
    from tf2onnx import optimizer

    graph = mapped()
    try:
        return optimizer.optimize_graph(graph, catch_errors=False)
    except Exception:
        return optimizer.optimize_graph(mapped())


class _Failures(logging.Handler):
    """The errors tf2onnx logs while this is open: one for each node it fails on, where it raises only the first."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []
        logging.getLogger("tf2onnx").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] and isinstance(record.args, tuple):
            self.lines.append(f"node {record.args[0]}: {first_line(record.exc_info[1])}")

    def close(self) -> None:
        logging.getLogger("tf2onnx").removeHandler(self)
        super().close()
