"""What rounding shifts on average, given back to the biases.

An integer layer's error is not all noise: a rounded weight is off in one direction, and a ReLU or a clipped range makes a mean of what
was none. Channel by channel, what the float model has in the mean over some samples and the integers have not is added to the bias,
layer after layer, each as the corrected layers above it feed it. One that stays in float behind integers is corrected, too: what the
others have left over ends there.

Source: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction" (2019), 4.2 and appendix D (empirical bias
correction), here after an activation that the quantizer took into its layer, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from edgepack.calibrate.calibrator import channel_means
from edgepack.passes.staged import StagedRun
from edgepack.prove.engine import Tensors

#: Samples that are enough, those below which a mean says too little, and multiply-accumulates of all runs: some seconds.
MOST_FEEDS, FEWEST_FEEDS, MOST_MACS = 64, 4, 2 * 10**11
#: A sample's error that is so many times the median one is an outlier's.
_UNUSUAL = 10.0
#: Where a bias stands among the inputs, and where the channels in the output of what may have one.
_BIAS = 2
_CHANNEL_AXIS: Mapping[str, int] = {"Conv": 1, "ConvTranspose": 1, "Gemm": -1}


@dataclass(frozen=True, kw_only=True)
class BiasedLayer:
    """A product of a constant weight, and the constant that is added to it.

    Attributes:
        node: its name; output: what it makes in the float model.
        bias: an initializer, float32, a number for each channel.
        axis: of the channels in the output.
    """

    node: str
    output: str
    bias: str
    axis: int


def affordable_feeds(macs: int) -> int:
    """How many samples a model of `macs` is run on, in float and in integers; 0: too few to be worth it."""
    feeds = min(MOST_FEEDS, MOST_MACS // max(1, 2 * macs))
    return feeds if feeds >= FEWEST_FEEDS else 0


def biased_layers(proto: onnx.ModelProto) -> list[BiasedLayer]:
    """The layers of a float model with a bias of their own, in order; those that may have one and have none get one of zeros, in place.

    Not a MatMul with an Add behind it: measured on a transformer, its error is no better corrected.
    """
    constants = {i.name: i for i in proto.graph.initializer}
    uses = Counter(name for node in proto.graph.node for name in node.input)
    taken = set(constants) | {name for node in proto.graph.node for name in node.output} | set(uses)
    found = []
    for node in proto.graph.node:
        weight = constants.get(node.input[1]) if node.op_type in _CHANNEL_AXIS else None
        if weight is None or any(a.name == "beta" and a.f != 1.0 for a in node.attribute):
            continue
        channels = _channels(node, weight)
        if len(node.input) <= _BIAS or not node.input[_BIAS]:
            name = f"{node.name}/bias"
            while name in taken:
                name += "_"
            zeros = numpy_helper.from_array(np.zeros(channels, np.float32), name)
            proto.graph.initializer.append(zeros)
            del node.input[_BIAS:]
            node.input.append(name)
        elif uses[node.input[_BIAS]] > 1 or not _is_bias(
            constants.get(node.input[_BIAS]), channels
        ):
            continue
        axis = _CHANNEL_AXIS[node.op_type]
        layer = BiasedLayer(
            node=node.name, output=node.output[0], bias=node.input[_BIAS], axis=axis
        )
        found.append(layer)
    return found


def bias_values(
    proto: onnx.ModelProto, layers: Sequence[BiasedLayer]
) -> dict[str, NDArray[np.float64]]:
    """The biases of layers by the layer's name: float64 [channels]."""
    held = {i.name: i for i in proto.graph.initializer}
    return {n.node: numpy_helper.to_array(held[n.bias]).astype(np.float64).ravel() for n in layers}


def bias_shifts(
    quantized: onnx.ModelProto,
    layers: Sequence[BiasedLayer],
    wanted: Mapping[str, NDArray[np.float64]],
    feeds: Sequence[Tensors],
) -> tuple[dict[str, NDArray[np.float64]], int]:
    """What to add to the bias of each layer, by its name, that takes what integers stand for; and over how many samples that was found.

    Args:
        quantized: in memory, its nodes in order, the float model's names on them.
        layers: of the float model it was made from.
        wanted: by output [feeds, channels], each sample's mean of the float model's channels.

    Raises:
        StepError: onnxruntime cannot run a part of it.
    """
    run = StagedRun(quantized, feeds)
    products = _behind_integers(quantized)
    by_node = {layer.node: layer for layer in layers if layer.node in products}
    shifts: dict[str, NDArray[np.float64]] = {}
    for name, values in run.stages(by_node):
        layer = by_node[name]
        given = np.stack([channel_means(v, layer.axis) for v in values])
        # Of the same samples alone: the run may have let some go.
        errors = wanted[layer.output][run.samples] - given
        if not np.isfinite(errors).all():
            continue
        shifts[name] = shift = usual_mean(errors)
        for value in values:
            at = [1] * value.ndim
            at[layer.axis] = -1
            value += shift.reshape(at).astype(value.dtype)
    return shifts, len(run.samples)


def usual_mean(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """[channels]: the mean of `errors` [samples, channels], less samples that are off as no other is.

    Ranges that leave an outlier out clip it, and that error is its own: biases that made up for it would be wrong for all others.
    """
    sizes = np.linalg.norm(errors, axis=1)
    return np.asarray(errors[sizes <= _UNUSUAL * np.median(sizes)].mean(axis=0))


def set_biases(quantized: onnx.ModelProto, biases: Mapping[str, NDArray[np.float64]]) -> None:
    """Give layers, by name, these biases in place: in float32, or in the integers that stand for them."""
    held = {i.name: i for i in quantized.graph.initializer}
    makers = {name: node for node in quantized.graph.node for name in node.output}
    for node in quantized.graph.node:
        if node.name not in biases:
            continue
        values = biases[node.name].astype(np.float32)
        name = node.input[_BIAS]
        if name not in held:
            # Source: onnxruntime.quantization, quantize_bias_static_impl.
            name, scale = makers[name].input[:2]
            scaled = np.round(values / numpy_helper.to_array(held[scale]))
            edges = np.iinfo(np.int32)
            values = np.clip(scaled.astype(np.float64), edges.min, edges.max).astype(np.int32)
        shape = tuple(held[name].dims)
        held[name].CopyFrom(numpy_helper.from_array(values.reshape(shape), name))


def _behind_integers(quantized: onnx.ModelProto) -> Collection[str]:
    """Names of the nodes that take what integers stand for."""
    dequantized = {
        name
        for node in quantized.graph.node
        if node.op_type == "DequantizeLinear"
        for name in node.output
    }
    return {node.name for node in quantized.graph.node if dequantized & set(node.input[:2])}


def _channels(node: onnx.NodeProto, weight: onnx.TensorProto) -> int:
    flags = {a.name: a.i for a in node.attribute}
    if node.op_type == "Gemm":
        return int(weight.dims[0 if flags.get("transB", 0) else 1])
    if node.op_type == "ConvTranspose":
        return int(weight.dims[1]) * int(flags.get("group", 1))
    return int(weight.dims[0])


def _is_bias(tensor: onnx.TensorProto | None, channels: int) -> bool:
    """A number for each channel, whatever axes of 1 stand before it."""
    if tensor is None or tensor.data_type != TensorProto.FLOAT:
        return False
    return bool(tensor.dims) and tensor.dims[-1] == channels == math.prod(tensor.dims)
