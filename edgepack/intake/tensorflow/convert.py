"""A frozen TensorFlow graph → ONNX, with tf2onnx and our handlers."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from edgepack import onnxfile
from edgepack.intake.canonical import drop_unneeded, number_names, set_edges
from edgepack.intake.leftovers import refuse_leftovers
from edgepack.intake.mapping import OPSET, Handlers, run_tf2onnx, translated
from edgepack.intake.tensorflow.graph import Frozen, TensorFlowGraph
from edgepack.intake.tensorflow.handlers import EARLY
from edgepack.intake.tensorflow.weights import fold_weights


def convert(graph: TensorFlowGraph, path: Path, handlers: Handlers) -> None:
    """Write ONNX with the user's names, named free dimensions, and names that do not change from run to run.

    Raises:
        ModelError: tf2onnx fails, or leaves operators that ONNX does not have; every one is listed.
    """
    import tensorflow as tf

    frozen = graph.freeze()
    with tf.Graph().as_default() as inner:
        tf.import_graph_def(frozen.graph_def, name="")
        proto = run_tf2onnx(partial(_mapped, inner, frozen, handlers))
    drop_unneeded(proto)
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


def _mapped(graph: Any, frozen: Frozen, handlers: Handlers) -> Any:
    """tf2onnx's graph of ONNX operators.

    This is tfonnx.process_tf_graph with one step more: the handlers of `EARLY` run between reading and translating.
    """
    from tf2onnx import tfonnx
    from tf2onnx.tf_loader import clear_functions

    clear_functions()
    main, functions = tfonnx.graphs_from_tf(
        graph, [*frozen.inputs, *frozen.weights], list(dict.fromkeys(frozen.outputs))
    )
    for read in (main, *functions):
        read.set_config(None, OPSET, None)
        for node in [n for n in read.get_nodes() if n.type in EARLY and n.type in handlers]:
            handler, arguments = handlers[node.type]
            handler(read, node, node.name, arguments)
    return translated(main, functions, handlers)
