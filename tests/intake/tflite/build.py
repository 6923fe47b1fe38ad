"""TFLite models for the tests: those the converter makes of small functions, and those written operator by operator."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.intake.tflite.flatbuffer import Graph, write
from edgepack.intake.tflite.model import TFLiteModel

Shape = Sequence[int | None]
BUILTINS = tf.lite.OpsSet.TFLITE_BUILTINS
INT8 = tf.lite.OpsSet.TFLITE_BUILTINS_INT8
INT16 = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8


def weights(*shape: int) -> Any:
    """Weights that are the same in every run."""
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def convert(
    function: Callable[..., Any], *shapes: Shape, kind: str = "float", edge: Any = tf.float32
) -> bytes:
    """What TFLiteConverter makes of a function: float, half, dynamic, int8 or int16."""
    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    traced = tf.function(function, input_signature=specs).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([traced])
    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "half":
        converter.target_spec.supported_types = [tf.float16]
    if kind.startswith("int"):
        rng = np.random.default_rng(0)
        data = [[rng.standard_normal(s).astype(np.float32) for s in shapes] for _ in range(8)]
        converter.representative_dataset = lambda: iter(data)
        converter.target_spec.supported_ops = [INT8] if kind == "int8" else [INT16, BUILTINS]
        converter.inference_input_type = converter.inference_output_type = edge
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return bytes(converter.convert())


def empty() -> Graph:
    """A model with one subgraph, to be filled by hand."""
    model = schema.ModelT(version=3, operatorCodes=[], buffers=[schema.BufferT()])
    model.subgraphs = [schema.SubGraphT(tensors=[], inputs=[], outputs=[], operators=[])]
    return Graph(model=model, subgraph=model.subgraphs[0])


def custom(
    graph: Graph, name: str, inputs: Sequence[int], outputs: Sequence[int], options: bytes | None
) -> None:
    """Add a custom operator."""
    graph.model.operatorCodes.append(
        schema.OperatorCodeT(deprecatedBuiltinCode=32, builtinCode=32, customCode=name.encode())
    )
    graph.operators.append(
        schema.OperatorT(
            opcodeIndex=len(graph.model.operatorCodes) - 1,
            inputs=list(inputs),
            outputs=list(outputs),
            customOptions=None if options is None else np.frombuffer(options, np.uint8),
        )
    )


def save(graph: Graph, inputs: Sequence[int], outputs: Sequence[int], path: Path) -> Path:
    """Write a model made by hand."""
    graph.subgraph.inputs, graph.subgraph.outputs = list(inputs), list(outputs)
    path.write_bytes(write(graph.model))
    return path


def both(
    path: Path, feeds: Sequence[Any], **options: Any
) -> tuple[TFLiteModel, list[Any], list[Any]]:
    """The opened model, TFLite's answers and the ONNX file's; steps, if there are any, follow the answers."""
    model = TFLiteModel.open(path, **options)
    made = path.with_suffix(".onnx")
    model.convert(made)
    np.savez(path.with_suffix(".feeds.npz"), *feeds)
    model.answer(path.with_suffix(".feeds.npz"), path.with_suffix(".answers.npz"))
    with np.load(path.with_suffix(".answers.npz")) as loaded:
        answers = [loaded[f"arr_{i}"] for i in range(len(model.outputs))]
        answers += [loaded[n] for n in loaded.files if n.startswith("step_")]
    session = onnxruntime.InferenceSession(made)
    names = [spec.name for spec in model.inputs]
    assert [v.name for v in session.get_inputs()] == names
    assert [v.name for v in session.get_outputs()] == [spec.name for spec in model.outputs]
    return model, answers, session.run(None, dict(zip(names, feeds, strict=True)))
