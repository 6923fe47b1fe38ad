"""A frozen TensorFlow graph → ONNX, with tf2onnx and our handlers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from edgepack import onnxfile
from edgepack.intake.canonical import drop_unneeded, number_names, set_edges
from edgepack.intake.leftovers import refuse_leftovers
from edgepack.intake.mapping import OPSET, Handlers, run_tf2onnx
from edgepack.intake.tensorflow.graph import TensorFlowGraph
from edgepack.intake.tensorflow.handlers import REWRITERS
from edgepack.intake.tensorflow.weights import fold_weights


def convert(graph: TensorFlowGraph, path: Path, handlers: Handlers) -> None:
    """Write ONNX with the user's names, named free dimensions, and names that do not change from run to run.

    Raises:
        ModelError: tf2onnx fails, or leaves operators that ONNX does not have; every one is listed.
    """
    import tensorflow as tf
    from tf2onnx import tfonnx

    frozen = graph.freeze()
    inputs = [*frozen.inputs, *frozen.weights]
    with tf.Graph().as_default() as inner:
        tf.import_graph_def(frozen.graph_def, name="")
        proto = run_tf2onnx(
            partial(
                tfonnx.process_tf_graph,
                inner,
                opset=OPSET,
                input_names=inputs,
                output_names=list(dict.fromkeys(frozen.outputs)),
                custom_op_handlers=dict(handlers),
                custom_rewriter=list(REWRITERS),
            )
        )
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
