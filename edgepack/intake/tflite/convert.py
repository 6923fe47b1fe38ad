"""A plain TFLite file → ONNX, through tf2onnx."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import onnx

from edgepack.intake.mapping import OPSET, Handlers, run_tf2onnx, translated
from edgepack.intake.tflite.fixes import FIXES, HANDLERS


def to_onnx(path: Path, handlers: Handlers) -> onnx.ModelProto:
    """What tf2onnx makes of a TFLite file at `OPSET`, its mistakes put right.

    This is tfonnx.process_tf_graph(None, tflite_path=…) with one step more: between reading and translating, `FIXES` change the
    nodes. Custom handlers come too late for that, after tf2onnx has turned TFLite's operators into TensorFlow's.

    Args:
        handlers: by operator, TensorFlow's name or `TFL_` and TFLite's; they go before our own.

    Raises:
        ModelError: tf2onnx fails; every node it names is in the error.
    """

    def mapped() -> Any:
        from tf2onnx.tf_loader import clear_functions
        from tf2onnx.tflite_utils import graphs_from_tflite

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's, about its interpreter
            main, inner = graphs_from_tflite(str(path))
        clear_functions()
        for graph in (main, *inner):
            graph.set_config(None, OPSET, None)
            _fix(graph)
        return translated(main, inner, {**HANDLERS, **handlers}, is_tflite=True)

    return run_tf2onnx(mapped)


def _fix(graph: Any) -> None:
    for kind, fix in FIXES:
        for node in [n for n in graph.get_nodes() if n.type == kind]:
            fix(graph, node)
