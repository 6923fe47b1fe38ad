"""A transposed convolution as a plain one, whose channels are then laid out as places."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgepack.passes.tune.chain import Chain
from edgepack.passes.tune.graph import Array, Graph, attribute


@dataclass(frozen=True, kw_only=True)
class _Axis:
    """One spatial axis: y[step·q + r] = Σ x[q + t]·w[r + pad − step·t] for t from `first` to `last`.

    Attributes:
        behind: zeros that the Conv needs after the last x.
    """

    step: int
    pad: int
    first: int
    last: int
    behind: int

    @staticmethod
    def of(taken: int, made: int, step: int, pad: int, kernel: int) -> _Axis | None:
        """None: what is made is no multiple of the step, or does not begin with the first x."""
        first = -((kernel - 1 - pad) // step)
        last = (step - 1 + pad) // step
        behind = made // step + last - taken
        if made % step or first > 0 or behind < 0:
            return None
        return _Axis(step=step, pad=pad, first=first, last=last, behind=behind)

    def spread(self, kernel: Array) -> Array:
        """[…, k] → [step, …, taps]."""
        taps = range(self.first, self.last + 1)
        spread = np.zeros((self.step, *kernel.shape[:-1], len(taps)), np.float32)
        for r in range(self.step):
            for i, t in enumerate(taps):
                at = r + self.pad - self.step * t
                if 0 <= at < kernel.shape[-1]:
                    spread[r, ..., i] = kernel[..., at]
        return spread


def convolve_transposed(graph: Graph) -> int:
    """ConvTranspose with steps → Conv that makes the step's places as channels, and a transposition of rows in NHWC.

    For INT8: onnxruntime has no integer ConvTranspose on CPUs and runs it in float, between conversions.
    """
    done = 0
    for node in graph.nodes("ConvTranspose"):
        kernel = graph.floats(node.input[1])
        bias = graph.floats(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1)
        axes = _axes(graph, node, kernel)
        if kernel is None or bias is None or axes is None:
            continue
        graph.replace([node], _plain(graph, node, kernel, bias, axes))
        done += 1
    return done


def _axes(graph: Graph, node: onnx.NodeProto, kernel: Array | None) -> tuple[_Axis, _Axis] | None:
    x, y = graph.shape(node.input[0]), graph.shape(node.output[0])
    if (
        x is None
        or y is None
        or kernel is None
        or kernel.ndim != 4
        or not graph.is_float(node.input[0])
    ):
        return None
    if attribute(node, "group", 1) != 1 or set(attribute(node, "dilations", [1])) != {1}:
        return None
    steps = attribute(node, "strides", [1, 1])
    # Where sizes are asked for, or pads are automatic, those before follow from them by other rules.
    if attribute(node, "output_shape") or attribute(node, "auto_pad", "NOTSET") not in (
        "NOTSET",
        "VALID",
    ):
        return None
    if max(steps) == 1:
        return None
    pads = attribute(node, "pads", [0] * 4)
    rows, columns = (
        _Axis.of(x[i + 2], y[i + 2], steps[i], pads[i], kernel.shape[i + 2]) for i in (0, 1)
    )
    return None if rows is None or columns is None else (rows, columns)


def _plain(
    graph: Graph, node: onnx.NodeProto, kernel: Array, bias: Array, axes: tuple[_Axis, _Axis]
) -> list[onnx.NodeProto]:
    rows, columns = axes
    y = node.output[0]
    shape = graph.shape(y)
    assert shape is not None
    batch, outputs, height, width = shape
    # [inputs, outputs, kh, kw] → [row, column, outputs, inputs, taps, taps]
    spread = rows.spread(np.moveaxis(columns.spread(kernel), -2, -1)).transpose(0, 1, 3, 2, 5, 4)
    places = rows.step * columns.step
    spread = spread.reshape(places * outputs, kernel.shape[0], *spread.shape[4:])
    biases = np.tile(np.broadcast_to(bias, (outputs,)), places).astype(np.float32)
    nodes = Chain(graph, y)
    held = [nodes.constant(spread, "kernel"), nodes.constant(biases, "bias")]
    pads = [-rows.first, -columns.first, rows.behind, columns.behind]
    made = nodes.add(
        "Conv", "places", [node.input[0], *held], kernel_shape=list(spread.shape[2:]), pads=pads
    )
    made = nodes.add("Transpose", "nhwc", [made], perm=[0, 2, 3, 1])
    high, wide = height // rows.step, width // columns.step
    made = nodes.shaped(made, "split", batch, high, wide, rows.step, columns.step * outputs)
    made = nodes.add("Transpose", "rows", [made], perm=[0, 1, 3, 2, 4])
    made = nodes.shaped(made, "whole", batch, height, width, outputs)
    return nodes.end(nodes.add("Transpose", "nchw", [made], perm=[0, 3, 1, 2]))
