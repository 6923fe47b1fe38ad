"""What people hand over that is no model, or none of ours: how it begins, what it is, and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

FORMATS = "formats: .keras, .h5/.hdf5 (Keras), a SavedModel folder, a frozen .pb, a TensorFlow 1 checkpoint, .tflite, .onnx"
_TORCH = (
    "export it where it was made: torch.onnx.export(model, example, 'model.onnx'), and give that"
)
_AGAIN = "download it again, and look at its size: the real one is larger"
_UNPACK = "unpack it and give the model inside"
_ORIGIN = "give the Keras, TensorFlow or ONNX model it was made from"


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """A kind of file: the pattern of its first bytes, what it is, and what the user does about it."""

    begins: re.Pattern[bytes]
    looks: str
    fix: str


def _kind(pattern: bytes, looks: str, fix: str) -> Foreign:
    return Foreign(begins=re.compile(pattern, re.DOTALL | re.IGNORECASE), looks=looks, fix=fix)


#: Binary files, by magic number. The order counts: the first that fits is told.
_BINARY = (
    _kind(rb".{4}ORTM", "an ORT-format model, already compiled for a runtime", _ORIGIN),
    _kind(rb"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9", "a PyTorch file (a pickle)", _TORCH),
    # A pickle runs code as it is read: never opened here.
    _kind(rb"\x80[\x02-\x05][\x8a-\x95}(\]c]", "a Python pickle", f"for PyTorch, {_TORCH}"),
    _kind(
        rb".{8}\{\s*\"",
        "a safetensors file: weights without the architecture",
        "build the model in its own library, load the weights there, and export that to ONNX or Keras",
    ),
    _kind(
        rb"GGUF", "a GGUF file (llama.cpp)", "give the original model, exported to ONNX or Keras"
    ),
    # plan files of TensorRT 5–10 begin with the letters of "ptrt" or "ftrt".
    _kind(rb"[pf]trt", "a TensorRT engine, built for one GPU", _ORIGIN),
    _kind(rb"\x93NUMPY", "a NumPy array", "arrays go to --calibration or --input; give the model"),
    _kind(rb"\x1f\x8b", "a gzip archive", _UNPACK),
    _kind(rb"BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf|Rar!", "a compressed archive", _UNPACK),
    _kind(rb".{257}ustar", "a tar archive", _UNPACK),
    _kind(rb"\x89PNG|\xff\xd8\xff|GIF8|%PDF", "an image or a document", FORMATS),
)

#: Texts. What of it is a TensorFlow graph was told before (detect.py).
_TEXT = (
    _kind(
        rb"version https://git-lfs\.github\.com/spec/",
        "a Git LFS pointer, not the model itself",
        "git lfs pull (after git lfs install) in that repository fetches the model",
    ),
    _kind(
        rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<(!doctype html|html)",
        "a web page: the download failed",
        _AGAIN,
    ),
    _kind(
        rb"\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)?<net[\s>]",
        "an OpenVINO model (.xml of an IR)",
        _ORIGIN,
    ),
    _kind(
        rb"\s*\{.*\"(modelTopology|weightsManifest)\"",
        "a TensorFlow.js model",
        "tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras model.json model.h5, and give that; "
        "or give the model it was made from",
    ),
    _kind(
        rb"\s*\{.*\"class_name\"",
        "a Keras architecture in JSON, without weights",
        "save the whole model: model.save('model.keras')",
    ),
    _kind(
        rb"(\s*#[^\n]*\n)*\s*(name\s*:\s*\"[^\"]*\"\s*)?(input\s*:|layers?\s*\{)",
        "a Caffe network in text",
        _ORIGIN,
    ),
    _kind(rb"7767517", "an ncnn network", _ORIGIN),
)


def foreign_kind(head: bytes, *, text: bool) -> Foreign | None:
    """The kind that `head`, a file's first bytes, shows; None: none that is known."""
    return next((k for k in (_TEXT if text else _BINARY) if k.begins.match(head)), None)


#: Protobuf messages that are not ours, by wire.message_kind.
MESSAGES = {
    "coreml": ("a CoreML model", _ORIGIN),
    "caffe": ("a Caffe model", _ORIGIN),
    "tensor": ("a single ONNX tensor, not a model", "give the .onnx model"),
}


def zip_kind(names: Sequence[str]) -> tuple[str, str]:
    """What a zip archive that is no .keras holds, and the remedy, told from its entries' names."""
    last = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in last:
        return "a TorchScript archive", _TORCH
    if "data.pkl" in last:
        return "a PyTorch archive (pickled tensors)", _TORCH
    if names and all(name.endswith(".npy") for name in names):
        return (
            "a NumPy archive (.npz)",
            "arrays go to --calibration; give the model as .keras, SavedModel or .onnx",
        )
    if "Manifest.json" in last and any(".mlpackage/" in f"{n}/" or "CoreML" in n for n in names):
        return "a CoreML package", _ORIGIN
    endings = (".tflite", ".onnx", ".keras", ".h5", ".hdf5", ".pb")
    inside = [name for name in names if name.endswith(endings)]
    if {"config.json", "model.weights.h5"} & set(names):
        lacks = " and ".join(n for n in ("config.json", "metadata.json") if n not in names)
        return f"a .keras archive without {lacks}", "save it again: model.save('model.keras')"
    if inside:
        return f"a zip archive with {inside[0][:200]}", "unzip it and give that file or its folder"
    return "a zip archive without a model that is known", FORMATS


#: Folders, by a file or folder in them.
FOLDERS = (
    ("model.json", "a TensorFlow.js model", _TEXT[3].fix),
    ("Manifest.json", "a CoreML package (.mlpackage)", _ORIGIN),
    ("coremldata.bin", "a compiled CoreML model (.mlmodelc)", _ORIGIN),
    (
        "model.weights.h5",
        "an unzipped .keras archive",
        "zip it: cd into the folder, then zip -0 -r ../model.keras .",
    ),
    ("pytorch_model.bin", "a PyTorch model's folder", _TORCH),
    ("model.safetensors", "a folder with safetensors: weights without the architecture", _TORCH),
    ("keras_metadata.pb", "a SavedModel folder that lost its saved_model.pb", "copy it again"),
    (
        "variables",
        "a SavedModel folder that lost its saved_model.pb",
        "copy the whole folder again",
    ),
)
