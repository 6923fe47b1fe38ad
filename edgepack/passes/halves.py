"""float32 weights as float16, some at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.transformers.float16 import convert_np_to_float16

from edgepack import weights

#: Numbers converted at a time: the conversion needs some twenty bytes for each.
_PART = 1 << 22


def half(tensor: onnx.TensorProto, folder: Path) -> NDArray[np.float16]:
    """A float32 weight in float16, as onnxruntime's converter rounds and clips it.

    Args: folder: what the tensor, if it is a reference, is relative to.
    """
    values = weights.array(tensor, folder)
    halves: NDArray[np.float16] = np.empty(values.shape, np.float16)
    flat = halves.reshape(-1)
    for i, part in _parts(values):
        flat[i : i + part.size] = convert_np_to_float16(part)
    return halves


def is_beyond_half(tensor: onnx.TensorProto, folder: Path) -> bool:
    """Whether a float32 weight holds a finite value that float16 cannot; the converter clips those."""
    if tensor.data_type != onnx.TensorProto.FLOAT:
        return False
    largest = np.finfo(np.float16).max
    parts = (np.abs(part) for _, part in _parts(weights.array(tensor, folder)))
    return any(bool(((part > largest) & np.isfinite(part)).any()) for part in parts)


def _parts(values: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Copies of the flattened values, some at a time, each with its place."""
    flat = values.reshape(-1)
    for i in range(0, flat.size, _PART):
        yield i, np.array(flat[i : i + _PART])
