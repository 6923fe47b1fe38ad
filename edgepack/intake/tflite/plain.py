"""A TFLite model made plain: the same answers, in built-in operators that tf2onnx can follow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.intake.tflite.bounds import check, references
from edgepack.intake.tflite.edges import choose_signature, cut
from edgepack.intake.tflite.flatbuffer import Graph, graphs, read
from edgepack.intake.tflite.rewrites.activations import separate_activations
from edgepack.intake.tflite.rewrites.biases import scale_biases
from edgepack.intake.tflite.rewrites.densify import densify
from edgepack.intake.tflite.rewrites.half import widen_half
from edgepack.intake.tflite.rewrites.hybrid import widen_hybrid
from edgepack.intake.tflite.rewrites.mediapipe import spell_out
from edgepack.intake.tflite.rewrites.tidy import (
    complete_quantization,
    name_tensors,
    prune,
    unpack_int4,
)
from edgepack.intake.tflite.state import refuse_state

_REWRITES: Sequence[Callable[[Graph], None]] = (
    densify,
    widen_half,
    unpack_int4,
    complete_quantization,
    scale_biases,
    separate_activations,
)


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What the rewrites did.

    Attributes:
        model: the `ModelT`, every tensor named by its place.
        spelled_out: custom operators that were replaced by built-in ones.
        hybrid: operators whose own kernels round their activations.
        names: what each tensor is called in the file, by the name it has now.
    """

    model: Any
    spelled_out: tuple[str, ...]
    hybrid: int
    names: dict[str, str]


def load(path: Path, signature: str | None, outputs: Sequence[str]) -> tuple[Any, Any]:
    """A checked model, what is to be converted at its subgraph 0, and the signature it has.

    Raises:
        ModelError: a damaged file, a signature or an output that it does not have, or state between runs.
    """
    model = read(path)
    check(model, path)
    chosen = choose_signature(model, signature, path.name)
    if chosen is not None and chosen.subgraphIndex:
        _swap(model, int(chosen.subgraphIndex))
    main = graphs(model)[0]
    if outputs:
        cut(main, outputs, path.name)
    model.signatureDefs = None
    prune(main)
    refuse_state(model, path.name)
    return model, chosen


def make_plain(model: Any) -> Plain:
    """Rewrite `model` in place."""
    spelled: set[str] = set()
    names: dict[str, str] = {}
    hybrid = 0
    for number, graph in enumerate(graphs(model)):
        for rewrite in _REWRITES:
            rewrite(graph)
        hybrid += widen_hybrid(graph)
        spelled.update(spell_out(graph))
        prune(graph)
        names.update(name_tensors(graph, number))
    return Plain(model=model, spelled_out=tuple(sorted(spelled)), hybrid=hybrid, names=names)


def _swap(model: Any, number: int) -> None:
    """Exchange subgraph 0 with another; everything converts and answers subgraph 0."""
    model.subgraphs[0], model.subgraphs[number] = model.subgraphs[number], model.subgraphs[0]
    other = {0: number, number: 0}
    for graph in graphs(model):
        for op in graph.operators:
            if not references(op):
                continue
            for options in (op.builtinOptions, op.builtinOptions2):
                for name, value in list(vars(options).items() if options is not None else ()):
                    if name.lower().endswith(("subgraphindex", "subgraph")):
                        setattr(options, name, other.get(value, value))
