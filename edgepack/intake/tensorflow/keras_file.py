"""`.keras` and `.h5`/`.hdf5` files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.artifact import Dim
from edgepack.errors import ModelError, UsageError, first_line
from edgepack.intake.tensorflow.function import FunctionGraph
from edgepack.intake.tensorflow.graph import spec, with_sizes
from edgepack.intake.tensorflow.keras_resize import sizes_at_run_time
from edgepack.intake.vet.hdf5 import vet_archive_weights, vet_hdf5


def open_keras(
    path: Path,
    outputs: Sequence[str],
    shapes: Mapping[str, Sequence[Dim]],
    *,
    trusted: bool = False,
) -> tuple[FunctionGraph, bool]:
    """The model in a Keras file; whether it was cut at `outputs`, which are layers' names.

    Args:
        shapes: sizes of inputs, which win over free ones of the model.
        trusted: code that the file brings along may run.

    Raises:
        ModelError: Keras refuses it (its own words are in the error), or it has no fixed inputs.
    """
    import keras

    if path.suffix.lower() == ".keras":
        vet_archive_weights(path)
    else:
        vet_hdf5(path, trusted=trusted)
    try:
        # compile=False: the training configuration (losses, optimizers such as Keras 2's `lr`) is no part of inference.
        model = keras.models.load_model(path, compile=False, safe_mode=not trusted)
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
    return _traced(model, functional, shapes), own


def _traced(model: Any, functional: Any, shapes: Mapping[str, Sequence[Dim]]) -> FunctionGraph:
    import keras
    import tensorflow as tf

    structure = getattr(functional, "_inputs_struct", functional.inputs)

    def call(*flat: Any) -> Sequence[Any]:
        packed = keras.tree.pack_sequence_as(structure, list(flat))
        with sizes_at_run_time():
            return list(keras.tree.flatten(functional(packed, training=False)))

    inputs = []
    for tensor in functional.inputs:
        name = _input_name(tensor)
        sizes = with_sizes(list(tensor.shape), shapes.get(name, ()))
        inputs.append(spec(name, sizes, tensor.dtype, alone=len(functional.inputs) == 1))
    return FunctionGraph(
        call,
        inputs,
        _output_names(functional),
        framework=f"keras {keras.__version__}, tensorflow {tf.__version__}",
        layers=_layer_names(model),
        keep=model,
    )


def _output_names(functional: Any) -> list[str]:
    """The keys of a dictionary of outputs, else the layers' names, in the order in which outputs come."""
    import keras

    structure = getattr(functional, "_outputs_struct", None)
    if isinstance(structure, dict):
        places = keras.tree.pack_sequence_as(structure, list(range(len(functional.outputs))))
        if all(isinstance(place, int) for place in places.values()):
            return sorted(places, key=places.__getitem__)
    return list(functional.output_names)


def _layer_names(model: Any) -> list[str]:
    return [layer.name for layer in getattr(model, "layers", ())]


def _input_name(tensor: Any) -> str:
    """A Keras input's layer name (the tensor's own may be `keras_tensor_5`)."""
    history = getattr(tensor, "_keras_history", None)
    return str(history.operation.name if history else tensor.name)
