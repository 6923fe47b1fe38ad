"""What tf2onnx makes of a graph, its mistakes put right and all its errors told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx

from edgepack.errors import ModelError, first_line
from edgepack.intake.tensorflow.handlers import REWRITERS

#: The newest that TensorRT 8.5 (JetPack 5) reads and tf2onnx 1.17 writes without gaps.
OPSET = 17

#: tf2onnx's form of a handler: `handler(graph, node, name, arguments)`, and its arguments.
Handlers = Mapping[str, tuple[Any, list[Any]]]


def run_tf2onnx(mapped: Callable[[], Any]) -> onnx.ModelProto:
    """The model of the tf2onnx graph that `mapped` makes; it is called again if an optimizer breaks the graph.

    Raises:
        ModelError: tf2onnx fails; every node it names is in the error.
    """
    import tf2onnx

    failures = _Failures()
    try:
        proto: onnx.ModelProto = _optimized(mapped).make_model("edgepack")
    except ModelError:
        raise
    except Exception as error:  # tf2onnx raises whatever its handlers do
        said = "; ".join(failures.lines) or first_line(error)
        raise ModelError(
            f"tf2onnx {tf2onnx.__version__} cannot convert this model: {said}",
            "rewrite that layer, register a handler (--op-handler module:function), or end the model before it (--outputs)",
        ) from error
    finally:
        failures.close()
    return proto


def translated(
    main: Any, functions: Sequence[Any], handlers: Handlers, *, is_tflite: bool = False
) -> Any:
    """tf2onnx's graph of ONNX operators, of what it read of a TensorFlow graph or a TFLite file."""
    from tf2onnx import tfonnx

    return tfonnx.process_graphs(
        main,
        functions,
        dict(handlers),
        inputs_as_nchw=[],
        outputs_as_nchw=[],
        continue_on_error=False,
        custom_rewriter=list(REWRITERS),
        initialized_tables=None,
        tensors_to_rename=None,
        is_tflite=is_tflite,
    )


def _optimized(mapped: Callable[[], Any]) -> Any:
    """The graph after tf2onnx's optimizers.

    Left to catch errors, they copy the whole graph before each of a few dozen passes (a third of all time for ConvNeXt): only
    a graph on which one fails is mapped again and goes that way.
    """
    from tf2onnx import optimizer

    graph = mapped()
    try:
        return optimizer.optimize_graph(graph, catch_errors=False, optimizers=_optimizers())
    except Exception:
        return optimizer.optimize_graph(mapped(), optimizers=_optimizers())


def _optimizers() -> dict[str, Any]:
    """tf2onnx's own, with one fault mended."""
    from tf2onnx import optimizer
    from tf2onnx.optimizer.transpose_optimizer import TransposeOptimizer

    class Mended(TransposeOptimizer):  # type: ignore[misc]
        def _mul_handler(self, trans: Any, node: Any) -> Any:
            done = super()._mul_handler(trans, node)
            # x·x behind a transpose kept the shape it had before it (tf2onnx 1.17).
            if done and node.input[0] == node.input[1]:
                self._g.copy_shape(node.input[0], node.output[0])
            return done

    return {**optimizer._get_optimizers(), "optimize_transpose": Mended}


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
