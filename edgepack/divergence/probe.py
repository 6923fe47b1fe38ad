"""A model that can be asked for any tensor inside it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgepack import onnxfile, weights
from edgepack.artifact import ModelFile
from edgepack.divergence.scales import Scale
from edgepack.errors import ModelError
from edgepack.prove.engine import Tensors, create_session, run_session, session_options
from edgepack.topology import in_order, taken

#: What holds the weights while the graph beside it is written again and again.
_WEIGHTS = "weights.onnx"
#: Names of what is added; no tool writes such.
_OWN = "edgepack/tap/"
#: Types that onnxruntime gives numpy no array of.
_NO_ARRAYS = ("tensor(bfloat16)", "tensor(float8")
_MICROSOFT = "com.microsoft"
FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)", "tensor(bfloat16)")


@dataclass(frozen=True, kw_only=True)
class Tap:
    """A tensor to be looked at: its name, and how its integers become floats, if they are to."""

    name: str
    scale: Scale | None = None


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A tensor's type in onnxruntime's words, e.g. tensor(float), and its shape on the inputs it was asked with."""

    type: str
    shape: tuple[int, ...] | None


class Probe:
    """A model in a folder of its own, its weights beside its graph.

    No optimization is run: the graph answers as it is written, and every tensor in it is there.
    """

    def __init__(self, model: ModelFile, folder: Path) -> None:
        """Raises ModelError: its nodes go in a circle."""
        self._folder, self._name = folder, model.path.name
        folder.mkdir()
        proto = onnxfile.load(model)
        try:
            self.nodes = in_order(proto.graph.node)
        except ValueError as error:
            raise ModelError(f"{model.path}: {error}", "export the model again") from error
        del proto.graph.node[:]
        proto.graph.node.extend(self.nodes)
        # Shapes that were only declared may be wrong, and are asked of onnxruntime.
        del proto.graph.value_info[:]
        self._take_weights(proto, model.path.parent)
        self.proto = proto
        self.inputs, self.outputs = model.inputs, model.outputs

    def kinds(self, feed: Tensors) -> dict[str, Kind]:
        """What each node's outputs are, by name; the shape is None for what is no tensor. One run, in which every tensor is let go."""
        names = [n for node in self.nodes for n in node.output if n]
        session = self.session(self._with_outputs(names))
        types = {o.name: o.type for o in session.get_outputs()}
        shapes = {o.name: o.shape for o in session.get_outputs()}
        del session
        fixed = {n: _fixed(shapes[n]) for n in names if types[n].startswith("tensor(")}
        asked = [n for n, shape in fixed.items() if shape is None]
        if asked:
            proto = self._copy()
            for i, name in enumerate(asked):
                proto.graph.node.append(helper.make_node("Shape", [name], [f"{_OWN}{i}"]))
                proto.graph.output.add().name = f"{_OWN}{i}"
            values = self.run(self.session(proto), [f"{_OWN}{i}" for i in range(len(asked))], feed)
            fixed |= {n: tuple(map(int, v)) for n, v in zip(asked, values, strict=True)}
        return {n: Kind(type=types[n], shape=fixed.get(n)) for n in names}

    def values(
        self, taps: Sequence[Tap], kinds: dict[str, Kind], feeds: Sequence[Tensors]
    ) -> Iterator[list[NDArray[Any]]]:
        """The tensors, feed by feed: all those of one feed are held together. What they are not made from is not run."""
        proto = self._copy()
        for field in (proto.graph.node, proto.graph.output):
            del field[:]
        proto.graph.node.extend(_above(self.nodes, {t.name for t in taps} | _scale_names(taps)))
        names = [self._tap(proto, t, i, kinds) for i, t in enumerate(taps)]
        proto.graph.output.extend(onnx.ValueInfoProto(name=n) for n in dict.fromkeys(names))
        session = self.session(proto)
        for feed in feeds:
            yield self.run(session, names, feed)

    def _tap(self, proto: onnx.ModelProto, tap: Tap, number: int, kinds: dict[str, Kind]) -> str:
        """The name of the output under which a tap's floats come out."""
        name, own = tap.name, f"{_OWN}{number}"
        kind = kinds.get(name)
        if tap.scale is not None:
            given = [name, tap.scale.scale, tap.scale.zero_point]
            given = given if given[-1] else given[:-1]
            # onnxruntime's own, which takes 16-bit integers whatever the operator set.
            node = helper.make_node("DequantizeLinear", given, [own], domain=_MICROSOFT)
            proto.graph.node.append(node)
            if all(o.domain != _MICROSOFT for o in proto.opset_import):
                proto.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
        elif kind is not None and kind.type.startswith(_NO_ARRAYS):
            proto.graph.node.append(helper.make_node("Cast", [name], [own], to=TensorProto.FLOAT))
        elif any(s.name == name for s in self.inputs):
            proto.graph.node.append(helper.make_node("Identity", [name], [own]))
        else:
            return name
        return own

    def _with_outputs(self, names: Sequence[str]) -> onnx.ModelProto:
        proto = self._copy()
        present = {o.name for o in proto.graph.output}
        for name in names:
            if name not in present:
                # Without a type: onnxruntime finds it.
                proto.graph.output.add().name = name
        return proto

    def _copy(self) -> onnx.ModelProto:
        return copy.deepcopy(self.proto)

    def session(self, proto: onnx.ModelProto) -> Any:
        """A session on a variant of this model's graph, with its weights. Raises StepError: onnxruntime refuses it."""
        options = session_options(optimize=False, folder=self._folder)
        return create_session(proto.SerializeToString(), options, self._name)

    def run(self, session: Any, names: Sequence[str], feed: Tensors) -> list[NDArray[Any]]:
        """Outputs of a session of this model. Raises StepError: onnxruntime cannot run it on `feed`."""
        values = run_session(session, self._name, feed, names)
        return [values[name] for name in names]

    def _take_weights(self, proto: onnx.ModelProto, source: Path) -> None:
        """Make references of all large weights, into one file here."""
        with weights.DataFile(self._folder / _WEIGHTS) as data:
            for tensor in proto.graph.initializer:
                large = weights.size_bytes(tensor) >= weights.SMALL_BYTES
                if large and not weights.is_packed(tensor):
                    data.take_array(tensor, tensor.name, weights.array(tensor, source))
            if any(map(data.holds, proto.graph.initializer)):
                data.keep(proto)


def _above(nodes: Sequence[onnx.NodeProto], names: set[str]) -> list[onnx.NodeProto]:
    """The nodes that the tensors `names` are made from, in their order."""
    wanted, kept = set(names), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(taken(node))
    return kept[::-1]


def _scale_names(taps: Sequence[Tap]) -> set[str]:
    scales = [t.scale for t in taps if t.scale is not None]
    return {n for s in scales for n in (s.scale, s.zero_point) if n}


def _fixed(shape: Any) -> tuple[int, ...] | None:
    """A shape as onnxruntime gives it, if every size is known. It gives [] for a scalar and for an unknown rank alike."""
    known = shape and all(isinstance(d, int) for d in shape)
    return tuple(shape) if known else None
