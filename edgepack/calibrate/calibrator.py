"""The calibration data, and what each float model's tensors were seen to hold on them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization.shape_inference import quant_pre_process

from edgepack import onnxfile, skeleton, weights
from edgepack.artifact import ModelFile
from edgepack.cache import Cache
from edgepack.calibrate.observation import Observation, Values
from edgepack.opsets import at_opset
from edgepack.prove.activations import activations
from edgepack.prove.engine import Tensors
from edgepack.samples.dataset import Samples

#: The first operator set whose QuantizeLinear takes a scale for each channel. Source: onnx, docs/Changelog.md.
_OLDEST = 13
#: Changes when an observation of the same model and data would be another one.
_EDITION = "1"


@dataclass(frozen=True, kw_only=True)
class Observed:
    """A float model made ready for the quantizer, and what its tensors held.

    Attributes:
        prepared: the model with a name for each node and a shape for each value.
    """

    prepared: ModelFile
    observation: Observation


class Calibrator:
    """Runs each float model once over the samples, whatever is made of the ranges then; remembers across builds."""

    def __init__(self, samples: Samples, folder: Path, cache: Cache) -> None:
        """Args: folder: where prepared models lie; it grows one folder a model."""
        self.samples = samples
        self._folder = folder
        self._cache = cache
        self._known: dict[str, Observed] = {}
        self._means: dict[Any, Mapping[str, NDArray[np.float64]]] = {}

    def observed(self, model: ModelFile) -> Observed:
        """The model, prepared, with the values of its float tensors.

        Raises:
            StepError: onnxruntime cannot run it on the samples. DataError: the samples do not fit it.
        """
        if model.sha256 not in self._known:
            folder = self._folder / f"prepared-{len(self._known):02d}"
            folder.mkdir(parents=True)
            prepared = prepare(model, folder / model.path.name)
            self._known[model.sha256] = Observed(
                prepared=prepared, observation=self._observe(prepared)
            )
        return self._known[model.sha256]

    def channel_means(
        self, model: ModelFile, axes: Mapping[str, int], feeds: Sequence[Tensors]
    ) -> Mapping[str, NDArray[np.float64]]:
        """Of tensors of a prepared model, by name: [feeds, channels], each feed's mean over all axes but `axes[name]`.

        Raises:
            StepError: onnxruntime cannot run it.
        """
        key = (model.sha256, len(feeds), tuple(sorted(axes.items())))
        if key not in self._means:
            found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in axes}
            for part in activations(model, list(axes), feeds) if axes else ():
                for name, values in part.items():
                    found[name].append(channel_means(values, axes[name]))
            self._means[key] = {name: np.stack(rows) for name, rows in found.items()}
        return self._means[key]

    def _observe(self, model: ModelFile) -> Observation:
        import onnxruntime

        parts = (
            "observation",
            _EDITION,
            onnxruntime.__version__,
            model.sha256,
            self.samples.digest,
        )
        key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
        kept = self._cache.load(key)
        if kept is not None:
            return Observation.from_bytes(kept)
        observation = observe(model, self.samples)
        self._cache.store(key, observation.to_bytes())
        return observation


def observe(model: ModelFile, samples: Samples) -> Observation:
    """What every float tensor of a prepared model that is no constant held on the samples."""
    names = _float_tensors(onnxfile.load(model))
    values = {name: Values() for name in names}
    inputs = {spec.name for spec in model.inputs}
    inner = [name for name in names if name not in inputs]
    for feed in samples.feeds(model.inputs):
        for name in inputs & values.keys():
            values[name].add(feed[name])
    for part in activations(model, inner, samples.feeds(model.inputs)) if inner else ():
        for name, array in part.items():
            values[name].add(array)
    return Observation(values=values, samples=len(samples))


def _float_tensors(proto: onnx.ModelProto) -> list[str]:
    """Graph inputs and results of nodes whose type is float32, in the order of the graph."""
    types = {
        v.name: v.type.tensor_type.elem_type
        for v in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output)
    }
    constants = {i.name for i in proto.graph.initializer}
    made = [v.name for v in proto.graph.input if v.name not in constants]
    made += [name for node in proto.graph.node for name in node.output]
    return [name for name in made if types.get(name) == onnx.TensorProto.FLOAT]


def channel_means(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """[channels]: the mean over all axes but one."""
    others = tuple(a for a in range(values.ndim) if a != axis % values.ndim)
    return np.asarray(values.mean(axis=others, dtype=np.float64))


def prepare(model: ModelFile, path: Path) -> ModelFile:
    """The model with a shape for each value and a name for each node, as the quantizer wants it, at `path`."""
    proto = onnxfile.load(model)
    if 0 < onnxfile.opset(proto) < _OLDEST:
        proto = at_opset(proto, _OLDEST)
    lifted = weights.lift(proto)
    try:
        quant_pre_process(proto, path, skip_optimization=True, auto_merge=True)
    except Exception:
        # Symbolic shape inference ends in all kinds of errors where it does not know a form of an operator, such as a Loop
        # without a condition: KeyError. ONNX's own then has to do.
        quant_pre_process(proto, path, skip_optimization=True, skip_symbolic_shape=True)
    proto = skeleton.read(path)
    weights.lower(proto, lifted)
    _name_nodes(proto)
    return onnxfile.save(proto, path, folder=model.path.parent)


def _name_nodes(proto: onnx.ModelProto) -> None:
    """By type and place, where a node has no name or one that another has."""
    taken: set[str] = set()
    for place, node in enumerate(proto.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{place}"
        taken.add(node.name)


def node_names(model: ModelFile) -> dict[str, Any]:
    """Operator type by node name of a prepared model, in order."""
    return {node.name: node.op_type for node in onnxfile.load(model).graph.node}
