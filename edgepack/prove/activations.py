"""The values inside a model: any tensor of it, for each feed, a bounded amount at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.prove.engine import Tensors, create_session, run_session, session_options

#: Values fetched in one run, at most (one tensor may be larger): 256 MiB.
BUDGET_BYTES = 1 << 28
#: What a tensor of unknown shape is taken for: 16 MiB.
_UNKNOWN_BYTES = 1 << 24


def activations(
    model: ModelFile,
    names: Sequence[str],
    feeds: Iterable[Tensors],
    *,
    budget_bytes: int = BUDGET_BYTES,
) -> Iterator[dict[str, NDArray[Any]]]:
    """The tensors `names` of an ONNX model for each feed, in several parts where they are large.

    Yields: arrays by name; together, the parts of one feed hold each name once, and feeds come in order.

    Raises:
        StepError: onnxruntime cannot open or run the model.
    """
    proto = onnxfile.load(model)
    parts = _parts(names, _sizes(proto), budget_bytes)
    sessions = [_open(model, proto, part) for part in parts]
    for feed in feeds:
        for session in sessions:
            yield run_session(session, model.path.name, feed)


def _sizes(proto: onnx.ModelProto) -> dict[str, int]:
    """Bytes of each tensor whose shape is known, as if all were float32."""
    sizes = {}
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            sizes[value.name] = 4 * math.prod(d.dim_value for d in dims)
    return sizes


def _parts(names: Sequence[str], sizes: Mapping[str, int], budget_bytes: int) -> list[list[str]]:
    parts: list[list[str]] = []
    used = budget_bytes
    for name in names:
        size = sizes.get(name, _UNKNOWN_BYTES)
        if used + size > budget_bytes:
            parts.append([])
            used = 0
        parts[-1].append(name)
        used += size
    return parts


def _open(model: ModelFile, proto: onnx.ModelProto, names: Sequence[str]) -> Any:
    shown = onnx.ModelProto()
    shown.CopyFrom(proto)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    # The weights stay where they are: the graph alone is given, and it refers to them.
    options = session_options(folder=model.path.parent)
    return create_session(shown.SerializeToString(), options, model.path.name)
