"""Each format answered by its own framework, without any of edgepack's code: the zoo's judge."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.zoo.entries import Entry

Tensors = Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Edge:
    """An input: a free size is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class Framework:
    """An opened model.

    Attributes:
        answer: inputs by name → outputs by name.
        fixed: placeholders that always get one value, by tensor.
    """

    inputs: tuple[Edge, ...]
    answer: Callable[[Tensors], dict[str, np.ndarray]]
    fixed: Mapping[str, np.ndarray]


def open_model(entry: Entry, path: Path) -> Framework:
    """The entry's model in its framework. Whatever the framework raises comes through."""
    if entry.format in ("keras", "keras-hdf5"):
        return _keras(path)
    if entry.format == "savedmodel":
        return _saved_model(path, entry.options.get("signature"))
    if entry.format in ("graphdef", "checkpoint"):
        return _graph(entry, path)
    return _tflite(path) if entry.format == "tflite" else _onnx(path)


def _keras(path: Path) -> Framework:
    import keras

    model = keras.models.load_model(path, compile=False)
    functional = getattr(model, "_functional", None) or model
    names = [str(t._keras_history.operation.name) for t in functional.inputs]
    edges = [
        Edge(name=n, dtype=str(t.dtype), shape=tuple(t.shape))
        for n, t in zip(names, functional.inputs, strict=True)
    ]

    def answer(feeds: Tensors) -> dict[str, np.ndarray]:
        flat = [keras.ops.convert_to_tensor(feeds[n]) for n in names]
        packed = keras.tree.pack_sequence_as(functional._inputs_struct, flat)
        values = keras.tree.flatten(functional(packed, training=False))
        return {n: np.asarray(v) for n, v in zip(functional.output_names, values, strict=True)}

    return Framework(inputs=tuple(edges), answer=answer, fixed={})


def _saved_model(path: Path, signature: str | None) -> Framework:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except AttributeError:
        # Optimizer slots of Keras 2 ('_UserObject' object has no attribute 'add_slot').
        return _saved_model_v1(path, signature)
    function = loaded.signatures[_signature(loaded.signatures, signature)]
    specs = function.structured_input_signature[1]

    def answer(feeds: Tensors, _keep: Any = loaded) -> dict[str, np.ndarray]:
        values = function(**{n: tf.constant(feeds[n]) for n in specs})
        return {n: v.numpy() for n, v in values.items()}

    return Framework(inputs=_edges({n: s for n, s in specs.items()}), answer=answer, fixed={})


def _saved_model_v1(path: Path, signature: str | None) -> Framework:
    import tensorflow as tf

    v1 = tf.compat.v1
    session = v1.Session(graph=v1.Graph())
    with session.graph.as_default():
        meta = v1.saved_model.loader.load(session, ["serve"], str(path))
    chosen = meta.signature_def[_signature(meta.signature_def, signature)]
    tensor = session.graph.get_tensor_by_name
    inputs = {n: tensor(i.name) for n, i in chosen.inputs.items()}
    outputs = {n: tensor(i.name) for n, i in chosen.outputs.items()}

    def answer(feeds: Tensors) -> dict[str, np.ndarray]:
        return dict(session.run(outputs, {inputs[n]: x for n, x in feeds.items()}))

    return Framework(inputs=_edges(inputs), answer=answer, fixed={})


def _signature(signatures: Mapping[str, Any], asked: str | None) -> str:
    names = [n for n in signatures if not n.startswith("__")]
    if asked or len(names) == 1:
        return asked or names[0]
    return "serving_default"


def _graph(entry: Entry, path: Path) -> Framework:
    import tensorflow as tf

    v1 = tf.compat.v1
    session = v1.Session(graph=v1.Graph())
    with session.graph.as_default():
        if entry.format == "checkpoint":
            definition = v1.MetaGraphDef.FromString(path.read_bytes())
            for node in definition.graph_def.node:
                # What TF 1 wrote here about training nodes, TF 2's shape functions contradict.
                node.attr.pop("_output_shapes", None)
            saver = v1.train.import_meta_graph(definition, clear_devices=True)
            saver.restore(session, str(path)[: -len(".meta")])
        else:
            v1.import_graph_def(v1.GraphDef.FromString(path.read_bytes()), name="")
    tensor = session.graph.get_tensor_by_name
    inputs = {n.partition(":")[0]: tensor(n) for n in entry.graph_inputs}
    outputs = {n.partition(":")[0]: tensor(n) for n in entry.graph_outputs}
    fixed = {}
    for item in entry.options.get("inputs", ()):
        name, _, value = item.partition("=")
        if value:
            fixed[f"{name}:0"] = np.asarray({"false": False, "true": True}.get(value, value))

    def answer(feeds: Tensors) -> dict[str, np.ndarray]:
        given = {inputs[n]: x for n, x in feeds.items()}
        given |= {tensor(n): x for n, x in fixed.items()}
        return dict(session.run(outputs, given))

    return Framework(inputs=_edges(inputs), answer=answer, fixed=fixed)


def _edges(tensors: Mapping[str, Any]) -> tuple[Edge, ...]:
    return tuple(
        Edge(name=n, dtype=t.dtype.base_dtype.name, shape=tuple(t.shape))
        for n, t in tensors.items()
    )


def _tflite(path: Path) -> Framework:
    import tensorflow as tf

    # XNNPACK, the default delegate, rounds otherwise than TFLite's own kernels.
    resolver = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = tf.lite.Interpreter(str(path), experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    inputs = {d["name"]: d for d in interpreter.get_input_details()}

    def answer(feeds: Tensors) -> dict[str, np.ndarray]:
        for name, x in feeds.items():
            interpreter.set_tensor(inputs[name]["index"], x)
        interpreter.invoke()
        outputs = interpreter.get_output_details()
        return {d["name"]: interpreter.get_tensor(d["index"]) for d in outputs}

    edges = tuple(
        Edge(name=n, dtype=np.dtype(d["dtype"]).name, shape=tuple(int(i) for i in d["shape"]))
        for n, d in inputs.items()
    )
    return Framework(inputs=edges, answer=answer, fixed={})


def _onnx(path: Path) -> Framework:
    import onnxruntime as ort

    types = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(int64)": "int64",
             "tensor(int32)": "int32", "tensor(bool)": "bool", "tensor(double)": "float64",
             "tensor(uint8)": "uint8"}  # fmt: skip
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]

    def answer(feeds: Tensors) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))

    edges = tuple(
        Edge(
            name=i.name,
            dtype=types[i.type],
            shape=tuple(d if isinstance(d, int) and d > 0 else None for d in i.shape),
        )
        for i in session.get_inputs()
    )
    return Framework(inputs=edges, answer=answer, fixed={})
