"""Image inputs with channels first or last, whatever the source has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile, TensorSpec
from edgepack.errors import UsageError
from edgepack.intake.request import Layout
from edgepack.intake.source import Source
from edgepack.prove.engine import Answers, Tensors
from edgepack.topology import all_nodes, subgraphs

#: Axis numbers of the one layout in the other.
_PERMUTATIONS: dict[Layout, tuple[int, ...]] = {"nchw": (0, 3, 1, 2), "nhwc": (0, 2, 3, 1)}
_OTHER: dict[Layout, Layout] = {"nchw": "nhwc", "nhwc": "nchw"}
#: Grey, colour, colour with alpha.
_CHANNELS = (1, 3, 4)


class LaidOutSource:
    """A source whose image inputs have the axes asked for; data for them are given that way too.

    An input is an image if it has four axes and 1, 3 or 4 channels. Outputs stay as they are.
    """

    def __init__(self, source: Source, layout: Layout) -> None:
        """The source opens when it is first asked, as it does alone."""
        self._source = source
        self._layout = layout

    @property
    def format(self) -> str:
        return self._source.format

    @property
    def path(self) -> Path:
        return self._source.path

    @property
    def framework(self) -> str:
        return self._source.framework

    @property
    def beside(self) -> tuple[Path, ...]:
        return self._source.beside

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Raises UsageError: no input is an image."""
        turned = self._turned()
        return tuple(
            TensorSpec(name=s.name, dtype=s.dtype, shape=self._turn(s.shape))
            if s.name in turned
            else s
            for s in self._source.inputs
        )

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._source.outputs

    @property
    def rounding(self) -> Mapping[str, float]:
        return self._source.rounding

    @property
    def guards(self) -> tuple[str, ...]:
        return self._source.guards

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        aside = path.with_name(f"before-layout-{path.name}")
        model, said = self._source.convert(aside)
        proto = onnxfile.load(model)
        for spec in self.inputs:
            if spec.name in self._turned():
                turn_input(proto, spec, _PERMUTATIONS[_OTHER[self._layout]])
        return onnxfile.save(proto, path, folder=aside.parent), said

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        back = _PERMUTATIONS[_OTHER[self._layout]]
        turned = self._turned()
        return self._source.answer(
            [
                {n: np.transpose(v, back) if n in turned else v for n, v in feed.items()}
                for feed in feeds
            ]
        )

    def close(self) -> None:
        self._source.close()

    def _turned(self) -> set[str]:
        layouts = {s.name: layout_of(s, self._source.format) for s in self._source.inputs}
        if not any(layouts.values()):
            listed = "; ".join(map(str, self._source.inputs))
            raise UsageError(
                f"--layout {self._layout}: no input is an image (four axes, 1, 3 or 4 channels): {listed}",
                "leave --layout out",
            )
        return {n for n, layout in layouts.items() if layout not in (None, self._layout)}

    def _turn(self, shape: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(shape[axis] for axis in _PERMUTATIONS[self._layout])


def layout_of(spec: TensorSpec, source_format: str) -> Layout | None:
    """An image input's layout; None if it is no image.

    Where both ends could be channels, ONNX files have them first and all others last.
    """
    if len(spec.shape) != 4:
        return None
    first, last = spec.shape[1] in _CHANNELS, spec.shape[3] in _CHANNELS
    if first and last:
        return "nchw" if source_format == "onnx" else "nhwc"
    return "nchw" if first else "nhwc" if last else None


def turn_input(model: onnx.ModelProto, spec: TensorSpec, permutation: Sequence[int]) -> None:
    """Give an input the shape of `spec`, and what reads it the old axes: `permutation` of the new ones.

    A Transpose that turned the old axes into the new ones goes away.
    """
    graph = model.graph
    value = next(v for v in graph.input if v.name == spec.name)
    value.CopyFrom(
        helper.make_tensor_value_info(spec.name, value.type.tensor_type.elem_type, list(spec.shape))
    )
    inverse = [list(permutation).index(axis) for axis in range(len(permutation))]
    needless = [n for n in graph.node if _is_transpose(n, spec.name, inverse)]
    gone = {n.output[0] for n in needless} - {o.name for o in graph.output}
    old = f"{spec.name}/turned"
    for node in graph.node:
        node.input[:] = [
            spec.name if n in gone else old if n == spec.name else n for n in node.input
        ]
    kept = [n for n in graph.node if not (n.output and n.output[0] in gone)]
    if any(old in n.input for n in kept) or _read_inside(kept, spec.name):
        turn = helper.make_node("Transpose", [spec.name], [old], name=old, perm=list(permutation))
        kept.insert(0, turn)
    del graph.node[:]
    graph.node.extend(kept)


def _is_transpose(node: Any, source: str, permutation: list[int]) -> bool:
    return (
        node.op_type == "Transpose"
        and list(node.input) == [source]
        and any(a.name == "perm" and list(a.ints) == permutation for a in node.attribute)
    )


def _read_inside(outer: Sequence[Any], name: str) -> bool:
    """Whether a subgraph reads `name`; it is made to read the turned value."""
    readers = [n for node in outer for graph in subgraphs(node) for n in all_nodes(graph)]
    for node in readers:
        if name in node.input:
            node.input[:] = [f"{name}/turned" if n == name else n for n in node.input]
    return any(f"{name}/turned" in node.input for node in readers)
