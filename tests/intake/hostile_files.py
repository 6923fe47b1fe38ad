"""Builders of broken and hostile model files. Whatever runs code of theirs leaves a file named `marker` behind."""

from __future__ import annotations

import base64
import json
import marshal
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

MARKER = "marker"
METADATA = json.dumps({"keras_version": "3.15.1", "date_saved": "2026-01-01@00:00:00"})


def layer(
    kind: str, name: str, module: str | None = "keras.layers", **config: Any
) -> dict[str, Any]:
    """A layer as Keras 3 writes it, reading the layer `x`."""
    tensor = {
        "class_name": "__keras_tensor__",
        "config": {"shape": [None, 2], "dtype": "float32", "keras_history": ["x", 0, 0]},
    }
    return {
        "module": module,
        "class_name": kind,
        "config": {"name": name, **config},
        "registered_name": None,
        "name": name,
        "inbound_nodes": [{"args": [tensor], "kwargs": {}}],
    }


def keras_config(*layers: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A Functional model: the input `x` [batch, 2], then `layers`."""
    begin = layer("InputLayer", "x", batch_shape=[None, 2], dtype="float32")
    begin["inbound_nodes"] = []
    all_layers = [begin, *layers]
    return {
        "module": "keras.src.models.functional",
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": all_layers,
            "input_layers": ["x", 0, 0],
            "output_layers": [all_layers[-1]["name"], 0, 0],
        },
        "registered_name": "Functional",
        **more,
    }


def weights(path: Path) -> bytes:
    """An HDF5 file with one array, made at `path`."""
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.zeros((2, 2), np.float32)
    return path.read_bytes()


def keras_archive(
    folder: Path,
    config: Any = None,
    *,
    drop: str | None = None,
    extra: Mapping[str | zipfile.ZipInfo, bytes] | None = None,
    weights_h5: bytes | None = None,
) -> Path:
    """model.keras; without the entry `drop`, with `extra` entries. `config` is data, or the text itself."""
    path = folder / "model.keras"
    text = (
        config
        if isinstance(config, str)
        else json.dumps(config or keras_config(layer("ReLU", "r")))
    )
    entries: dict[str | zipfile.ZipInfo, bytes] = {
        "metadata.json": METADATA.encode(),
        "config.json": text.encode(),
        "model.weights.h5": weights_h5 or weights(folder / "weights.h5"),
    }
    (folder / "weights.h5").unlink(missing_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            if name != drop:
                archive.writestr(name, content)
        for name, content in (extra or {}).items():
            archive.writestr(name, content, compress_type=zipfile.ZIP_DEFLATED)
    return path


def symlink_entry(name: str) -> zipfile.ZipInfo:
    """A zip entry that says it is a symlink."""
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


def bytecode(marker: Path) -> str:
    """A Python function that makes `marker`, as Keras' own func_dump packs one: base64 of marshalled code."""
    code = compile(f"lambda x: (open({str(marker)!r}, 'w').close(), x)[1]", "<model>", "eval")
    function = next(c for c in code.co_consts if hasattr(c, "co_code"))
    return base64.b64encode(marshal.dumps(function)).decode()


def lambda_layer(marker: Path) -> dict[str, Any]:
    """A Lambda layer as Keras 3 writes one, with code that makes `marker`."""
    function = {
        "class_name": "__lambda__",
        "config": {"code": bytecode(marker), "defaults": None, "closure": None},
    }
    return layer("Lambda", "evil", function=function, arguments={})


def hdf5(folder: Path, config: Any = None, name: str = "model.h5") -> Path:
    """A Keras 2 file with an architecture and no weights to speak of."""
    path = folder / name
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config or legacy_config())
        file.create_group("model_weights").attrs["layer_names"] = np.array([], "S1")
    return path


def legacy_config(*layers: dict[str, Any]) -> dict[str, Any]:
    """A Sequential model as Keras 2 writes one."""
    begin = {
        "class_name": "InputLayer",
        "config": {"batch_input_shape": [None, 2], "dtype": "float32", "name": "x"},
    }
    return {"class_name": "Sequential", "config": {"name": "model", "layers": [begin, *layers]}}


def legacy_lambda(marker: Path) -> dict[str, Any]:
    """A Lambda layer as Keras 2 writes one: marshalled code, defaults, closure."""
    config = {
        "name": "evil",
        "function": [bytecode(marker), None, None],
        "function_type": "lambda",
        "output_shape": None,
        "output_shape_type": "raw",
        "arguments": {},
    }
    return {"class_name": "Lambda", "config": config}


def cut(path: Path, part: float = 0.5) -> Path:
    """The file without its end."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    return path


def varint(number: int) -> bytes:
    """Protobuf's variable-length number."""
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def message(*parts: tuple[int, int | bytes]) -> bytes:
    """A protobuf message of (field number, number or bytes)."""
    out = b""
    for number, value in parts:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out
