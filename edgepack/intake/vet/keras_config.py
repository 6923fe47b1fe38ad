"""Rules for a Keras model's configuration (config.json of a .keras, `model_config` of an HDF5 file): what it may make Keras do.

Keras builds a model by importing the modules and calling the classes that the configuration names. What keras 3.15's safe mode refuses by
itself: Python lambdas, TFSMLayer, TorchModuleWrapper, vocabularies read from files, and public functions that it lists
(`serialization_lib.NON_MODELING_APIS`). What it does not: any other public function under `keras` (keras.datasets.…, keras.utils.plot_model),
imports of any module below `keras`, `keras_hub`, `keras_cv` and `keras_nlp`. Older versions that the user may have refuse less.

Sources: keras 3.15.1 `saving/serialization_lib.py`, `layers/core/lambda_layer.py`, `layers/preprocessing/index_lookup.py`,
`legacy/saving/saving_utils.py`; CVE-2024-3660, CVE-2025-1550, CVE-2025-8747, CVE-2025-9905 and CVE-2025-9906 (code from a
configuration), CVE-2025-12058 (vocabularies that are paths or URLs), CVE-2025-12060 (keras.utils.get_file).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from edgepack.errors import ModelError

#: A vocabulary of a million words stands in 16 MB.
CONFIG_BYTES = 32 << 20
#: Lists and objects, of which Python makes half a hundred bytes and more each; NASNet has 60 000.
_OBJECTS = 500_000
#: A model in a model adds about six levels; Keras recurses with several frames a level, Python ends at 1000.
_DEPTH = 100
_SHOWN, _MOST = 10, 1000
FIX = (
    "if you trust it, load it where it was made and export it: model.export('folder'), then give that SavedModel; "
    "or let its code run, confined: --trust-model; if it comes from somebody else, do not load it at all"
)

#: Layers that run what a file brings along.
_REFUSED_CLASSES = {
    "__lambda__": "Python bytecode",
    "TFSMLayer": "loads a SavedModel from any path",
    "TorchModuleWrapper": "unpickles PyTorch code",
    "JaxLayer": "runs Python functions that the file names",
    "FlaxLayer": "runs Python functions that the file names",
}
#: Where classes and functions of a model may come from; every other one is unknown, or does more than compute.
_CLASSES = re.compile(
    r"keras(\.(activations|applications|constraints|engine|dtype_policies|initializers|layers|losses|metrics|mixed_precision|models|ops|optimizers"
    r"|quantizers|random|regularizers)(\.\w+)*)?"
    r"|keras\.src\.(activations|applications|constraints|dtype_policies|engine|initializers|layers|losses|metrics|mixed_precision|models|ops"
    r"|optimizers|quantizers|random|regularizers)(\.\w+)*"
    r"|(keras_hub|keras_cv|keras_nlp)(\.(src|api|layers|models|tokenizers|samplers|metrics))?(\.\w+)*"
    r"|builtins"
)
_FUNCTIONS = re.compile(
    r"keras\.(activations|constraints|initializers|losses|metrics|ops(\.\w+)*|random|regularizers)|builtins"
)
#: Settings that Keras and KerasHub take for the path or URL of a file where they are a text.
_FILE_SETTINGS = ("vocabulary", "merges", "proto")


def vet_keras_config(
    text: bytes | str, path: Path, what: str, *, trusted: bool = False
) -> dict[str, Any]:
    """The configuration as data, once every rule holds.

    Args:
        text: the JSON.
        what: where in `path` it stands, for messages.
        trusted: what it asks of Keras does not matter, only its form.

    Raises:
        ModelError: it is no JSON object, too large, too deep, or breaks rules; every broken one is listed with its layer.
    """
    if len(text) > CONFIG_BYTES:
        raise ModelError(f"{path}: {what} has {len(text)} bytes, more than {CONFIG_BYTES}", FIX)
    data = text.encode() if isinstance(text, str) else text
    objects = data.count(b"{") + data.count(b"[")
    if objects > _OBJECTS:
        raise ModelError(f"{path}: {what} has {objects} objects, more than {_OBJECTS}", FIX)
    try:
        config = json.loads(data)
    except RecursionError:
        raise ModelError(f"{path}: {what} is nested too deeply", FIX) from None
    except ValueError as error:
        raise ModelError(f"{path}: {what} is no JSON: {error}", "save the model again") from error
    if not isinstance(config, dict) or not isinstance(config.get("config"), (dict, list)):
        raise ModelError(
            f"{path}: {what} is no Keras model's configuration (class_name, config)",
            "save the whole model: model.save('model.keras')",
        )
    faults = [] if trusted else list(dict.fromkeys(islice(config_faults(config), _MOST)))
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise ModelError(
            f"{path}: {what} asks Keras for what a model file must not: {'; '.join(faults[:_SHOWN])}{more}",
            FIX,
        )
    return config


def config_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Every broken rule, with the name of the layer around it.

    What concerns training (the outermost compile_config) is left out: edgepack loads with compile=False, which drops it.
    """
    top = {k: v for k, v in config.items() if k != "compile_config"}
    stack: list[tuple[Any, str, int]] = [(top, "the model", 0)]
    while stack:
        value, layer, depth = stack.pop()
        if depth > _DEPTH:
            yield f"{layer} is nested deeper than {_DEPTH} levels"
            return
        if isinstance(value, dict):
            layer = _layer_name(value) or layer
            yield from (f"{layer}: {fault}" for fault in _object_faults(value))
            stack.extend((v, layer, depth + 1) for v in value.values())
        elif isinstance(value, list):
            # Long lists of numbers are shapes and vocabularies.
            stack.extend((v, layer, depth + 1) for v in value if isinstance(v, (dict, list)))


def _layer_name(value: Mapping[str, Any]) -> str | None:
    """`Dense 'fc1'` for a layer's configuration, by its own name."""
    inner = value.get("config")
    name = value.get("name") or (inner.get("name") if isinstance(inner, dict) else None)
    kind = value.get("class_name")
    if isinstance(kind, str) and isinstance(name, str) and kind != "DTypePolicy":
        return f"{kind[:80]} {name[:80]!r}"
    return None


def _object_faults(value: Mapping[str, Any]) -> Iterator[str]:
    kind = value.get("class_name")
    if isinstance(kind, str):
        last = kind.rpartition(">")[2].rpartition(".")[2]
        if last in _REFUSED_CLASSES:
            yield f"{last} ({_REFUSED_CLASSES[last]})"
        elif last == "Lambda" and (fault := _lambda_fault(value.get("config"))):
            yield f"Lambda ({fault})"
        if "config" in value and value.get("module") is not None:
            yield from _module_faults(kind, value)
    for setting in _FILE_SETTINGS:
        text = value.get(setting)
        if isinstance(text, str) and text:
            yield f"{setting} is the file or URL {text[:200]!r}, outside the model"


def _module_faults(kind: str, value: Mapping[str, Any]) -> Iterator[str]:
    """A class or function from a place that is not for models. `keras` + `utils.get_file` is keras.utils too."""
    name = value.get("config") if kind == "function" else kind
    whole = f"{value['module']}.{name}"
    place = whole.rpartition(".")[0]
    if kind == "function":
        if not _FUNCTIONS.fullmatch(place):
            yield f"function {whole[:200]}, none that a model computes with"
    elif not _CLASSES.fullmatch(place):
        yield f"{whole[:200]}, a class of a package that is not Keras' own"


def _lambda_fault(config: Any) -> str | None:
    """Why a Lambda layer is refused; None for one that only names a function, which has its own rule."""
    function = config.get("function") if isinstance(config, dict) else None
    if isinstance(function, dict) and function.get("class_name") == "function":
        return None
    if isinstance(function, dict) and function.get("class_name") == "__lambda__":
        return None  # told as __lambda__, at its own place
    if isinstance(function, list):
        return "Python bytecode, marshalled"
    return "a Python function"
