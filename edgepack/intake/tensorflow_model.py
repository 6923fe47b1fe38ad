"""A model inside TensorFlow: opened, converted with tf2onnx, and asked. Imported in the worker process only."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepack import onnxfile
from edgepack.artifact import DTYPES, Dim, TensorSpec
from edgepack.errors import ModelError
from edgepack.intake.canonical import fix_inputs, number_names, refuse_leftovers, set_edges

#: The newest that TensorRT 8.5 (JetPack 5) reads and tf2onnx 1.17 writes without gaps.
OPSET = 17


class TensorFlowModel:
    """A traced function of flat tensors with the user's names at its edges."""

    def __init__(
        self,
        call: Callable[[Sequence[Any]], Sequence[Any]],
        inputs: Sequence[TensorSpec],
        output_names: Sequence[str],
        keep: Any,
    ) -> None:
        """Args:
        call: flat tensors in the order of `inputs` → flat tensors in the order of `output_names`.
        keep: what must stay alive while the function is used.
        """
        import keras
        import tensorflow as tf

        self.framework = f"keras {keras.__version__}, tensorflow {tf.__version__}"
        self.inputs = tuple(inputs)
        self._keep = keep
        self._signature = [
            tf.TensorSpec([None if isinstance(d, str) else d for d in s.shape], s.dtype)
            for s in inputs
        ]
        self._function = tf.function(
            lambda *flat: tuple(call(flat)), input_signature=self._signature
        )
        self._traced = traced = self._function.get_concrete_function()
        names = _unique(output_names)
        self.outputs = tuple(
            _spec(name, t.shape, t.dtype)
            for name, t in zip(names, traced.structured_outputs, strict=True)
        )

    @staticmethod
    def open(path: Path, form: str) -> TensorFlowModel:
        """Load and trace a model.

        Raises:
            ModelError: TensorFlow or Keras refuses it; their own words are in the error.
        """
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
        tf.keras.utils.set_random_seed(0)
        if form == "savedmodel":
            return _open_savedmodel(path)
        return _open_keras(path)

    def convert(self, path: Path) -> None:
        """Write ONNX with the user's names, named free dimensions, and names that do not change from run to run.

        Raises:
            ModelError: tf2onnx fails, or leaves operators that ONNX does not have.
        """
        import tf2onnx

        try:
            proto, _ = tf2onnx.convert.from_function(
                self._function, input_signature=self._signature, opset=OPSET
            )
        except Exception as error:
            raise ModelError(
                f"tf2onnx {tf2onnx.__version__} cannot convert this model: {type(error).__name__}: {error}",
                "the message names the operation; rewrite that layer, or export a part of the model",
            ) from error
        fix_inputs(proto, self._captured())
        refuse_leftovers(proto)
        set_edges(proto, self.inputs, self.outputs)
        number_names(proto)
        onnxfile.trim(proto)
        onnxfile.save(proto, path)

    def _captured(self) -> dict[str, Any]:
        """Constants the traced function refers to from outside, by the name tf2onnx gives them."""
        import tensorflow as tf

        return {
            inner.name: outer.numpy()
            for outer, inner in self._traced.graph.captures
            if outer.dtype != tf.resource
        }

    def answer(self, feeds: Path, answers: Path) -> None:
        """Run the arrays of one .npz through the model into another, both by position."""
        import tensorflow as tf

        with np.load(feeds) as loaded:
            flat = [tf.constant(loaded[f"arr_{i}"]) for i in range(len(self.inputs))]
        try:
            outputs = self._function(*flat)
        except Exception as error:
            shapes = ", ".join(
                f"{s.name} {list(x.shape)}" for s, x in zip(self.inputs, flat, strict=True)
            )
            raise ModelError(
                f"the source model fails on the golden inputs ({shapes}): {error}",
                "give sizes it accepts with --shape and --batch, or real inputs with --calibration",
            ) from error
        np.savez(answers, *[o.numpy() for o in outputs])


def _open_keras(path: Path) -> TensorFlowModel:
    import keras

    try:
        # compile=False: the training configuration (losses, optimizers such as Keras 2's `lr`) is no part of inference.
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"keras {keras.__version__} cannot load {path.name}: {_first_line(error)}",
            "a damaged file: save it again; custom or Lambda layers: export the model (model.export(folder)) "
            "and give the SavedModel",
        ) from error
    functional = getattr(model, "_functional", None) or model
    if not getattr(functional, "inputs", None):
        raise ModelError(
            f"{path.name} has no fixed inputs (a subclassed model, or a Sequential that was never built)",
            "export it (model.export(folder)) and give the SavedModel",
        )
    inputs = [_spec(_input_name(t), t.shape, t.dtype) for t in functional.inputs]
    structure = getattr(functional, "_inputs_struct", functional.inputs)

    def call(flat: Sequence[Any]) -> list[Any]:
        packed = keras.tree.pack_sequence_as(structure, list(flat))
        return list(keras.tree.flatten(functional(packed, training=False)))

    return TensorFlowModel(call, inputs, functional.output_names, model)


def _open_savedmodel(path: Path) -> TensorFlowModel:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
    except Exception as error:
        raise ModelError(
            f"tensorflow {tf.__version__} cannot load the SavedModel {path.name}: {_first_line(error)}",
            "export the model again with today's Keras: model.export(folder)",
        ) from error
    signatures = dict(loaded.signatures)
    if not signatures:
        raise ModelError(
            f"the SavedModel {path.name} has no signature", "export it with model.export(folder)"
        )
    if "serving_default" not in signatures and len(signatures) > 1:
        raise ModelError(
            f"the SavedModel {path.name} has the signatures {', '.join(sorted(signatures))}",
            "export the one you want as serving_default",
        )
    function = signatures.get("serving_default") or next(iter(signatures.values()))
    specs = function.structured_input_signature[1]
    names = sorted(specs)
    outputs = sorted(function.structured_outputs)

    def call(flat: Sequence[Any]) -> list[Any]:
        answers = function(**dict(zip(names, flat, strict=True)))
        return [answers[n] for n in outputs]

    inputs = [_spec(n, specs[n].shape, specs[n].dtype) for n in names]
    return TensorFlowModel(call, inputs, outputs, loaded)


def _input_name(tensor: Any) -> str:
    """A Keras input's layer name (the tensor's own may be `keras_tensor_5`)."""
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else tensor.name)


def _spec(name: str, shape: Any, dtype: Any) -> TensorSpec:
    import tensorflow as tf

    kind = tf.as_dtype(dtype).name
    if kind not in DTYPES:
        raise ModelError(
            f"{name} is of type {kind}, which edge runtimes take no raw tensors of",
            f"move this part out of the model; dtypes that work: {', '.join(DTYPES)}",
        )
    rank = getattr(shape, "rank", len(shape) if isinstance(shape, (tuple, list)) else None)
    if rank is None:
        raise ModelError(
            f"{name} has no known rank", "give the model an Input with a shape and save it again"
        )
    dims: list[Dim] = []
    for axis, size in enumerate(shape):
        free = "batch" if axis == 0 else f"{name}_dim{axis}"
        dims.append(free if size is None else int(size))
    return TensorSpec(name=name, dtype=kind, shape=tuple(dims))


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        result.append(f"{name}_{seen[name]}" if seen[name] else name)
    return result


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
