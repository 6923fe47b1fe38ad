"""A plain TFLite file → ONNX, through tf2onnx."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from edgepack.errors import ModelError
from edgepack.intake.tflite.fixes import FIXES, HANDLERS

#: The newest that TensorRT 8.5 (JetPack 5) reads and tf2onnx 1.17 writes without gaps.
OPSET = 17

#: tf2onnx's form of a handler: `handler(graph, node, name, arguments)`, and its arguments.
Handlers = Mapping[str, tuple[Any, list[Any]]]


def to_onnx(path: Path, handlers: Handlers) -> onnx.ModelProto:
    """What tf2onnx makes of a TFLite file at `OPSET`, its mistakes put right.

    This is tfonnx.process_tf_graph(None, tflite_path=…) with one step more: between reading and translating, `FIXES` change the
    nodes. Custom handlers come too late for that, after tf2onnx has turned TFLite's operators into TensorFlow's.

    Args:
        handlers: by operator, TensorFlow's name or `TFL_` and TFLite's; they go before our own.

    Raises:
        ModelError: tf2onnx fails; every node it names is in the error.
    """
    import tf2onnx
    from tf2onnx import optimizer, tfonnx
    from tf2onnx.tf_loader import clear_functions
    from tf2onnx.tflite_utils import graphs_from_tflite

    failures = _Failures()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TensorFlow's, about its interpreter
            main, inner = graphs_from_tflite(str(path))
        clear_functions()
        for graph in (main, *inner):
            graph.set_config(None, OPSET, None)
            _fix(graph)
        all_handlers = {**HANDLERS, **handlers}
        made = tfonnx.process_graphs(
            main, inner, all_handlers, [], [], False, None, None, None, is_tflite=True
        )
        proto: onnx.ModelProto = optimizer.optimize_graph(made).make_model("edgepack")
    except ModelError:
        raise
    except Exception as error:  # tf2onnx raises whatever its handlers do
        said = "; ".join(failures.lines) or _first_line(error)
        raise ModelError(
            f"tf2onnx {tf2onnx.__version__} cannot convert this model: {said}",
            "register a handler (--op-handler module:function), or end the model before it (--outputs)",
        ) from error
    finally:
        failures.close()
    return proto


def _fix(graph: Any) -> None:
    for kind, fix in FIXES:
        for node in [n for n in graph.get_nodes() if n.type == kind]:
            fix(graph, node)


class _Failures(logging.Handler):
    """The errors tf2onnx logs while this is open: one for each node it fails on, where it raises only the first."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []
        logging.getLogger("tf2onnx").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] and isinstance(record.args, tuple):
            self.lines.append(f"node {record.args[0]}: {_first_line(record.exc_info[1])}")

    def close(self) -> None:
        logging.getLogger("tf2onnx").removeHandler(self)
        super().close()


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
