"""What stands at a TFLite model's edges: the signature's names or the tensors' own made clean, dtypes, free dimensions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgepack.artifact import DTYPES as CARRIED
from edgepack.artifact import Dim, TensorSpec
from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import DTYPES, TYPES, Graph, ints, text

#: Names TensorFlow and Keras give to what has none; the user never wrote them.
_NAMELESS = re.compile(
    r"((Stateful)?PartitionedCall(_\d+)?|Identity(_\d+)?|keras_tensor(_\d+)?|args_\d+|)"
)
#: The last part of a path that names an operation (`dense/BiasAdd`), so that the layer is the part before.
_OPERATION = re.compile(r"[A-Z][A-Za-z0-9]*(_\d+)?")


def choose_signature(model: Any, wanted: str | None, name: str) -> Any | None:
    """The signature to convert: the wanted one, else serving_default, else that of subgraph 0, else None.

    Raises:
        ModelError: there is no signature of that name.
    """
    signatures = {text(s.signatureKey): s for s in model.signatureDefs or []}
    if wanted is not None:
        if wanted not in signatures:
            there = ", ".join(sorted(signatures)) or "none"
            raise ModelError(f"{name} has no signature {wanted!r}", f"signatures it has: {there}")
        return signatures[wanted]
    main = [s for s in signatures.values() if s.subgraphIndex == 0]
    return signatures.get("serving_default") or (main[0] if main else None)


def cut(graph: Graph, outputs: Sequence[str], name: str) -> None:
    """End the graph at the tensors of these names (as they stand in the file, or made clean), in that order.

    Raises:
        ModelError: there is no such tensor.
    """
    made = [i for op in graph.operators for i in ints(op.outputs)]
    own = {text(graph.tensors[i].name): i for i in reversed(made)}
    clean = {clean_name(n): i for n, i in own.items()}
    chosen = []
    for wanted in outputs:
        index = own.get(wanted, clean.get(wanted))
        if index is None:
            near = sorted(n for n in own if wanted.lower() in n.lower())[:8]
            raise ModelError(
                f"{name} has no tensor {wanted!r}",
                f"tensors like it: {', '.join(near)}"
                if near
                else "open the file in Netron to see its tensors",
            )
        chosen.append(index)
    graph.subgraph.outputs = chosen


def clean_name(name: str) -> str:
    """A tensor's name as the user would write it; empty if only TensorFlow has named it.

    `serving_default_image:0` → `image`, `model/dense/BiasAdd;model/dense/MatMul` → `dense`, `Identity_1` → ``.
    """
    first = name.split(";")[0]
    first = re.sub(r":\d+$", "", first)
    first = re.sub(r"^serving_default_", "", first)
    parts = [p for p in first.split("/") if p]
    if len(parts) > 1 and _OPERATION.fullmatch(parts[-1]):
        parts = parts[:-1]
    last = parts[-1] if parts else ""
    return "" if _NAMELESS.fullmatch(last) else last


def specs(
    graph: Graph,
    indices: Sequence[int],
    named: Mapping[int, str],
    fallback: str,
    taken: Sequence[str] = (),
) -> tuple[TensorSpec, ...]:
    """Names, dtypes and shapes of edge tensors; free dimensions are `batch` and `<name>_dim<axis>`.

    Args:
        named: the signature's names, by place among `indices`.
        fallback: what a tensor without a name is called, with its place if there are several.
        taken: names that are in use: ONNX has one space of names for inputs and outputs.

    Raises:
        ModelError: a dtype that no bundle can carry.
    """
    names: list[str] = []
    for place, index in enumerate(indices):
        name = named.get(place, "")
        if _NAMELESS.fullmatch(name):
            name = clean_name(text(graph.tensors[index].name))
        name = name or (fallback if len(indices) == 1 else f"{fallback}_{place}")
        stem, count = name, 1
        while name in names or name in taken:
            name, count = f"{stem}_{count}", count + 1
        names.append(name)
    return tuple(_spec(graph.tensors[i], n) for i, n in zip(indices, names, strict=True))


def _spec(tensor: Any, name: str) -> TensorSpec:
    dtype = DTYPES.get(tensor.type, TYPES[tensor.type].lower())
    if dtype not in CARRIED:
        raise ModelError(
            f"{name} is of type {dtype}, which edge runtimes take no raw tensors of",
            f"move this part out of the model; dtypes that work: {', '.join(CARRIED)}",
        )
    shape: list[Dim] = list(ints(tensor.shape))
    for axis, size in enumerate(ints(tensor.shapeSignature)):
        if size < 0:
            shape[axis] = "batch" if axis == 0 else f"{name}_dim{axis}"
    return TensorSpec(name=name, dtype=dtype, shape=tuple(shape))


def signature_names(graph: Graph, signature: Any | None) -> tuple[dict[int, str], dict[int, str]]:
    """The signature's names by place among the graph's inputs, and among its outputs."""
    if signature is None:
        return {}, {}
    return (
        _by_place(ints(graph.subgraph.inputs), signature.inputs),
        _by_place(ints(graph.subgraph.outputs), signature.outputs),
    )


def _by_place(indices: Sequence[int], entries: Any) -> dict[int, str]:
    left = [(int(e.tensorIndex), text(e.name)) for e in entries or []]
    names: dict[int, str] = {}
    for place, index in enumerate(indices):
        entry = next((e for e in left if e[0] == index), None)
        if entry is not None:
            left.remove(entry)
            names[place] = entry[1]
    return names
