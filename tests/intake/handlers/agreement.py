"""A TensorFlow function, frozen as the intake freezes models, converted, and compared with itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)
from tf2onnx import tfonnx

from edgepack.intake.mapping import OPSET, run_tf2onnx
from edgepack.intake.tensorflow.handlers import HANDLERS, REWRITERS

Array = NDArray[Any]
#: issue 3's bar.
ATOL, RTOL = 1e-4, 1e-3


def concrete(
    function: Callable[..., Any], feeds: Sequence[Array], shapes: Sequence[Sequence[int | None]]
) -> Any:
    """`function` traced for inputs of these shapes, None for a free size."""
    specs = [tf.TensorSpec(s, x.dtype) for s, x in zip(shapes, feeds, strict=True)]
    return tf.function(function, input_signature=specs, autograph=False).get_concrete_function()


def from_tensorflow(traced: Any) -> onnx.ModelProto:
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(frozen.graph.as_graph_def(), name="")
        return _convert(
            graph,
            input_names=[t.name for t in frozen.inputs if t.dtype != tf.resource],
            output_names=list(dict.fromkeys(t.name for t in frozen.outputs)),
        )


def from_tflite(path: Path) -> onnx.ModelProto:
    return _convert(None, tflite_path=str(path))


def _convert(graph: Any, **arguments: Any) -> onnx.ModelProto:
    proto = run_tf2onnx(
        partial(
            tfonnx.process_tf_graph,
            graph,
            opset=OPSET,
            custom_op_handlers=dict(HANDLERS),
            custom_rewriter=list(REWRITERS),
            **arguments,
        )
    )
    onnx.checker.check_model(proto, full_check=True)
    return proto


def run(proto: onnx.ModelProto, feeds: Sequence[Array]) -> list[Array]:
    """The answers, both by position."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [i.name for i in session.get_inputs()]
    return list(session.run(None, dict(zip(names, feeds, strict=True))))


def operators(proto: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in proto.graph.node}


def agree(
    function: Callable[..., Any],
    *feeds: Array,
    shapes: Sequence[Sequence[int | None]] | None = None,
) -> onnx.ModelProto:
    """The converted function, after it answered `feeds` as TensorFlow did; the real and imaginary parts of complex answers apart.

    Law: |a − b| ≤ 1e-4 + 1e-3·|b|, and the same shapes and types.
    """

    def apart(*inputs: Any) -> list[Any]:
        parts: list[Any] = []
        for t in tf.nest.flatten(function(*inputs)):
            parts += [tf.math.real(t), tf.math.imag(t)] if t.dtype.is_complex else [t]
        return parts

    traced = concrete(apart, feeds, shapes or [x.shape for x in feeds])
    proto = from_tensorflow(traced)
    expected = [t.numpy() for t in tf.nest.flatten(traced(*map(tf.constant, feeds)))]
    same(run(proto, feeds), expected)
    return proto


def same(answers: Sequence[Array], expected: Sequence[Array]) -> None:
    assert len(answers) == len(expected)
    for a, b in zip(answers, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, atol=ATOL, rtol=RTOL)


def noise(*shape: int) -> Array:
    """float32 numbers of a normal distribution, the same in every run."""
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)
