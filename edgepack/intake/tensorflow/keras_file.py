"""`.keras` and `.h5`/`.hdf5` files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepack.errors import ModelError, UsageError, first_line
from edgepack.intake.tensorflow.freeze import freeze_function
from edgepack.intake.tensorflow.graph import Frozen, spec, unique
from edgepack.intake.vet.hdf5 import vet_archive_weights, vet_hdf5


class KerasGraph:
    """A Keras model in inference mode, traced once."""

    def __init__(self, model: Any, functional: Any) -> None:
        import keras
        import tensorflow as tf

        self.framework = f"keras {keras.__version__}, tensorflow {tf.__version__}"
        self.layers = tuple(_layer_names(model))
        alone = len(functional.inputs) == 1
        self.inputs = tuple(
            spec(_input_name(t), t.shape, t.dtype, alone=alone) for t in functional.inputs
        )
        structure = getattr(functional, "_inputs_struct", functional.inputs)

        def call(*flat: Any) -> tuple[Any, ...]:
            packed = keras.tree.pack_sequence_as(structure, list(flat))
            return tuple(keras.tree.flatten(functional(packed, training=False)))

        signature = [
            tf.TensorSpec([None if isinstance(d, str) else d for d in s.shape], s.dtype)
            for s in self.inputs
        ]
        self._model = model
        self._function = tf.function(call, input_signature=signature)
        self._traced = traced = self._function.get_concrete_function()
        self.outputs = tuple(
            spec(name, t.shape, t.dtype, alone=alone)
            for name, t in zip(
                unique(functional.output_names), traced.structured_outputs, strict=True
            )
        )

    def run(self, feeds: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        import tensorflow as tf

        return [np.asarray(o) for o in self._function(*[tf.constant(f) for f in feeds])]

    def freeze(self) -> Frozen:
        return freeze_function(self._traced, len(self.inputs))


def open_keras(path: Path, outputs: Sequence[str]) -> tuple[KerasGraph, bool]:
    """The model in a Keras file; whether it was cut at `outputs`, which are layers' names.

    Raises:
        ModelError: Keras refuses it (its own words are in the error), or it has no fixed inputs.
    """
    import keras

    (vet_archive_weights if path.suffix.lower() == ".keras" else vet_hdf5)(path)
    try:
        # compile=False: the training configuration (losses, optimizers such as Keras 2's `lr`) is no part of inference.
        model = keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:
        raise ModelError(
            f"keras {keras.__version__} cannot load {path.name}: {first_line(error)}",
            "a damaged file: save it again; custom or Lambda layers: export the model (model.export(folder)) "
            "and give the SavedModel",
        ) from error
    functional = getattr(model, "_functional", None) or model
    if not getattr(functional, "inputs", None):
        raise ModelError(
            f"{path.name} has no fixed inputs (a subclassed model, or a Sequential that was never built)",
            "export it (model.export(folder)) and give the SavedModel",
        )
    layers = {layer.name: layer for layer in model.layers}
    own = bool(outputs) and all(name in layers for name in outputs)
    if own:
        # A layer that is called more than once has no single output: Keras says so.
        try:
            ends = [layers[name].output for name in outputs]
            functional = keras.Model(functional.inputs, ends)
        except (ValueError, AttributeError) as error:
            raise UsageError(
                f"--outputs {','.join(outputs)}: {first_line(error)}",
                "name layers that are called once",
            ) from error
        functional.output_names = list(outputs)
    return KerasGraph(model, functional), own


def _layer_names(model: Any) -> list[str]:
    return [layer.name for layer in getattr(model, "layers", ())]


def _input_name(tensor: Any) -> str:
    """A Keras input's layer name (the tensor's own may be `keras_tensor_5`)."""
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else tensor.name)
