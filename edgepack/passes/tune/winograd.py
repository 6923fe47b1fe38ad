"""A 3×3 convolution by Winograd's minimal filtering along the rows: half of the products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgepack.passes.tune.chain import Chain
from edgepack.passes.tune.graph import Array, Graph, attribute

#: Rows that are made at once, of how many rows of the input.
_MADE, _TAKEN = 4, 6
#: Places that onnxruntime's matrix product on wasm computes at once: what is left over of them takes as long.
_LANES = 16
#: What turning there and back takes, as products in its time: for all its nodes, and for each number that goes in or comes out.
_NODES_COST, _NUMBER_COST = 300_000, 12
#: Places below which a kernel, twice as large and turned when a session is created, is much for what it saves.
_FEWEST_PLACES = 100
#: Of Pad with inputs in the place of attributes.
_FIRST_OPSET = 11

# F(4, 3) at the points 0, 1, −1, 1/2, −2, ∞: made = MAKE · ((KERNEL · kernel) ⊙ (TAKE · taken)). A quarter less rounding than with the
# usual 2 in the place of 1/2; measured: 2.7 times a plain sum's.
_TAKE: Array = np.array(
    [
        [1, -1.5, -2, 1.5, 1, 0],
        [0, -1, 0.5, 2.5, 1, 0],
        [0, 1, -2.5, 0.5, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 0.5, -1, -0.5, 1, 0],
        [0, 1, -1.5, -2, 1.5, 1],
    ],
    np.float32,
)
_KERNEL: Array = np.array(
    [
        [1, 0, 0],
        [1 / 3, 1 / 3, 1 / 3],
        [-1 / 3, 1 / 3, -1 / 3],
        [-16 / 15, -8 / 15, -4 / 15],
        [1 / 15, -2 / 15, 4 / 15],
        [0, 0, 1],
    ],
    np.float32,
)
_MAKE: Array = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 0.5, -2, 0],
        [0, 1, 1, 0.25, 4, 0],
        [0, 1, -1, 0.125, -8, 1],
    ],
    np.float32,
)
#: The column of MAKE that adds to all rows alike, a bias too.
_ALIKE = 1


@dataclass(frozen=True, kw_only=True)
class _Sizes:
    """Of one image: channels, what goes in (height, width) and what comes out (rows, columns)."""

    inputs: int
    outputs: int
    height: int
    width: int
    rows: int
    columns: int

    @property
    def bands(self) -> int:
        """Of four rows each."""
        return -(-self.rows // _MADE)

    def pays(self) -> bool:
        """Whether it saves more than it costs."""
        channels = self.inputs * self.outputs
        plain = 9 * channels * _in_lanes(self.rows * self.columns)
        products = 3 * _TAKEN * channels * _in_lanes(self.bands * self.columns)
        numbers = self.inputs * self.height * self.width + self.outputs * self.rows * self.columns
        pays = plain - products > _NODES_COST + _NUMBER_COST * numbers
        return pays and self.rows * self.columns >= _FEWEST_PLACES


def _in_lanes(places: int) -> int:
    return -(-places // _LANES) * _LANES


def convolve_bands(graph: Graph) -> int:
    """Conv3×3 in steps of 1 → six Conv1×3 of sums of rows, for every four rows, and sums of theirs.

    Six products stand where twelve did. For engines that convolve by copying and a matrix product, as onnxruntime does on wasm. What turns
    the kernel are nodes over constants, which a session folds: a file with quantized weights stays as small as it is.

    Where sums take longer than the products they save (few channels), or the kernel is much for few places, the Conv stays. F(4, 3) errs by 1e-6 of the largest answer.

    Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015; onnxruntime, core/mlas/lib/convolve.cpp and
    wasm_simd/SgemmKernelWasmSimd.cpp; the costs fit 0.49 to 1.9 of the time, measured for 27 sizes.
    """
    done = 0
    for conv in graph.nodes("Conv"):
        sizes = _sizes(graph, conv)
        if sizes is not None:
            _replace(graph, conv, sizes)
            done += 1
    return done


def _sizes(graph: Graph, conv: onnx.NodeProto) -> _Sizes | None:
    x, y, kernel = (graph.shape(n) for n in (conv.input[0], conv.output[0], conv.input[1]))
    if x is None or y is None or kernel is None or len(x) != 4 or x[0] != 1:
        return None
    if graph.opset < _FIRST_OPSET:
        return None
    plain = (
        kernel[2:] == (3, 3)
        and attribute(conv, "group", 1) == 1
        and set(attribute(conv, "strides", [1])) == {1}
        and set(attribute(conv, "dilations", [1])) == {1}
        and attribute(conv, "auto_pad", "NOTSET") in ("NOTSET", "VALID")
    )
    known = all(graph.is_constant(name) for name in conv.input[1:] if name)
    if not (plain and known and graph.is_float(conv.input[0])):
        return None
    sizes = _Sizes(inputs=x[1], outputs=y[1], height=x[2], width=x[3], rows=y[2], columns=y[3])
    return sizes if sizes.pays() else None


def _replace(graph: Graph, conv: onnx.NodeProto, sizes: _Sizes) -> None:
    clamp = graph.only_taker(conv.output[0], "Relu", "Clip")
    old = [conv] if clamp is None else [conv, clamp]
    y = old[-1].output[0]
    nodes = Chain(graph, y)
    taken = _take(nodes, conv, sizes)
    kernel = _kernel(nodes, conv.input[1], sizes)
    _, left, _, right = attribute(conv, "pads", [0] * 4)
    bias = [_bias(nodes, conv.input[2], sizes)] if len(conv.input) > 2 and conv.input[2] else []
    made = nodes.add(
        "Conv", "products", [taken, kernel, *bias],
        group=_TAKEN, kernel_shape=[1, 3], pads=[0, left, 0, right],
    )  # fmt: skip
    made = _make(nodes, made, clamp, sizes)
    graph.replace(old, nodes.end(made))


def _take(nodes: Chain, conv: onnx.NodeProto, sizes: _Sizes) -> str:
    """Sums of rows, [1, 6 · inputs, bands, width]."""
    top = attribute(conv, "pads", [0] * 4)[0]
    bottom = _MADE * sizes.bands + _TAKEN - _MADE - sizes.height - top
    weight = np.tile(_TAKE.reshape(_TAKEN, 1, _TAKEN, 1), (sizes.inputs, 1, 1, 1))
    sums = nodes.add(
        "Conv", "sums", [conv.input[0], nodes.constant(weight, "take")],
        group=sizes.inputs, kernel_shape=[_TAKEN, 1], strides=[_MADE, 1], pads=[top, 0, bottom, 0],
    )  # fmt: skip
    places = sizes.bands * sizes.width
    split = nodes.shaped(sums, "split", 1, sizes.inputs, _TAKEN, places)
    moved = nodes.add("Transpose", "moved", [split], perm=[0, 2, 1, 3])
    return nodes.shaped(moved, "taken", 1, _TAKEN * sizes.inputs, sizes.bands, sizes.width)


def _kernel(nodes: Chain, kernel: str, sizes: _Sizes) -> str:
    """[outputs, inputs, 3, 3] → [6 · outputs, inputs, 1, 3]."""
    rows = nodes.add("Transpose", "kernel_rows", [kernel], perm=[2, 0, 1, 3])
    # One product, not one for each kernel: a session is to be created quickly.
    wide = nodes.shaped(rows, "kernels", 3, sizes.outputs * sizes.inputs * 3)
    turned = nodes.add("MatMul", "turned", [nodes.constant(_KERNEL, "points"), wide])
    return nodes.shaped(turned, "kernel", _TAKEN * sizes.outputs, sizes.inputs, 1, 3)


def _bias(nodes: Chain, bias: str, sizes: _Sizes) -> str:
    """[outputs] → [6 · outputs], for the products that add to all rows alike."""
    outside = [_ALIKE * sizes.outputs, (_TAKEN - 1 - _ALIKE) * sizes.outputs]
    return nodes.add("Pad", "bias", [bias, nodes.integers("outside", *outside)])


def _make(nodes: Chain, products: str, clamp: onnx.NodeProto | None, sizes: _Sizes) -> str:
    """Rows of the products, [1, 6 · outputs, bands, columns] → [1, outputs, rows, columns]."""
    rows = _MADE * sizes.bands
    split = nodes.shaped(products, "apart", 1, _TAKEN, sizes.outputs, sizes.bands * sizes.columns)
    weight = nodes.constant(_MAKE.reshape(_MADE, _TAKEN, 1, 1), "make")
    made = nodes.add("Conv", "made", [split, weight], kernel_shape=[1, 1])
    if clamp is not None:
        made = nodes.clamp(clamp, made)
    bands = nodes.shaped(made, "bands", _MADE, sizes.outputs, sizes.bands, sizes.columns)
    moved = nodes.add("Transpose", "rows", [bands], perm=[1, 2, 0, 3])
    whole = nodes.shaped(moved, "whole", 1, sizes.outputs, rows, sizes.columns)
    if rows == sizes.rows:
        return whole
    ends = [nodes.integers("cut", n) for n in (0, sizes.rows, 2)]
    return nodes.add("Slice", "image", [whole, *ends])
