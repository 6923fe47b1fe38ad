"""Neighbouring columns of an image as channels, where there are too few channels for integer kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from edgepack.passes.tune.graph import Array, Graph, attribute, dense_conv

#: Bytes that VNNI multiplies and adds in one step, and channels that a kernel makes in one: fewer of either are handled one by one.
_DOT, _LANES = 4, 16
#: How many columns may be made in one, and how many more products that may take.
_MOST_COLUMNS, _MOST_WORK = 16, 3.0
#: Of Pad with inputs in the place of attributes.
_FIRST_OPSET = 11
_TO_NHWC, _TO_NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


@dataclass(frozen=True, kw_only=True)
class _Columns:
    """Of a Conv whose step makes `made` columns at once.

    Attributes:
        taken: columns of its input that count as one, each with all its channels.
        kernel: float32 [made · outputs, taken · inputs, rows, taps].
        left, right: columns of padding, each `taken` wide.
        cut: columns made beyond the last, to be thrown away.
        added: columns of zeros behind the input's last, so that `taken` divides them.
    """

    made: int
    taken: int
    kernel: Array
    left: int
    right: int
    cut: int
    added: int


def merge_columns(graph: Graph) -> int:
    """Conv of few channels → one of several columns side by side: of channels in fours, and 16 or more outputs.

    [N, C, H, W] read as [N, m·C, H, W/m] is the same bytes in NHWC, in which onnxruntime's integer kernels work on x86. The kernel holds
    zeros where a column does not reach. For INT8: with 3 channels in the place of 4, or 8 outputs in the place of 16, a Conv takes two to
    four times as long.

    Source: onnxruntime, core/providers/cpu/quantization/qlinearconv.cc and core/mlas/lib/qgemm.h; measured.
    """
    done = 0
    for conv in graph.nodes("Conv"):
        columns = _columns(graph, conv)
        if columns is not None:
            _replace(graph, conv, columns)
            done += 1
    return done


def _columns(graph: Graph, conv: onnx.NodeProto) -> _Columns | None:
    dense = dense_conv(graph, conv)
    if dense is None or graph.opset < _FIRST_OPSET:
        return None
    x, y, kernel = dense
    if x[3] == 1 or (kernel.shape[1] % _DOT == 0 and kernel.shape[0] >= _LANES):
        return None
    return next(_fitting(conv, kernel, x[3], y[3]), None)


def _fitting(conv: onnx.NodeProto, kernel: Array, width: int, made: int) -> Iterator[_Columns]:
    outputs, inputs, rows, across = kernel.shape
    step, pad = attribute(conv, "strides", [1, 1])[1], attribute(conv, "pads", [0] * 4)[1]
    before = _work(outputs, inputs * rows * across)
    for count in (2**i for i in range(_MOST_COLUMNS.bit_length())):
        taken = count * step
        if (taken * inputs) % _DOT or count * outputs < _LANES:
            continue
        steps = -(-width // taken)
        left = -(-pad // taken)
        last = ((count - 1) * step - pad + across - 1) // taken
        whole = -(-made // count)
        right = whole + last - steps
        new = _kernel(kernel, count, step, pad, left + last + 1)
        work = _work(new.shape[0], new[0].size) / count
        if right < 0 or work > _MOST_WORK * before:
            continue
        yield _Columns(
            made=count,
            taken=taken,
            kernel=new,
            left=left,
            right=right,
            cut=whole * count - made,
            added=steps * taken - width,
        )


def _work(outputs: int, products: int) -> int:
    """Multiply-accumulates for one place, with those that fill up vectors."""
    return -(-outputs // _LANES) * _LANES * -(-products // _DOT) * _DOT


def _kernel(kernel: Array, count: int, step: int, pad: int, taps: int) -> Array:
    outputs, inputs, rows, across = kernel.shape
    taken = count * step
    first = -(-pad // taken) * taken
    new: Array = np.zeros((count, outputs, taps * taken, inputs, rows), np.float32)
    for column in range(count):
        begin = first + column * step - pad
        new[column, :, begin : begin + across] = kernel.transpose(0, 3, 1, 2)
    new = new.reshape(count * outputs, taps, taken * inputs, rows)
    return np.ascontiguousarray(new.transpose(0, 2, 3, 1))


def _replace(graph: Graph, conv: onnx.NodeProto, columns: _Columns) -> None:
    """View, Conv, the activation behind it, view back."""
    clamp = graph.only_taker(conv.output[0], "Relu", "Clip")
    old = [conv] if clamp is None else [conv, clamp]
    y = old[-1].output[0]
    x_shape, y_shape = graph.shape(conv.input[0]), graph.shape(conv.output[0])
    assert x_shape is not None
    assert y_shape is not None
    batch, inputs, height, width = x_shape
    steps = (width + columns.added) // columns.taken
    sizes = (batch, height, steps, columns.taken * inputs)
    nodes, x = _viewed(graph, conv.input[0], sizes, f"{y}/columns")
    if columns.added:
        _insert(graph, nodes, 1, "Pad", [np.array([0, 0, 0, 0, 0, 0, columns.added, 0])])
    new = onnx.NodeProto()
    new.CopyFrom(conv)
    new.input[0] = x
    new.input[1] = graph.constant(columns.kernel, f"{y}/kernel")
    if len(conv.input) > 2 and conv.input[2]:
        bias = graph.floats(conv.input[2])
        assert bias is not None
        new.input[2] = graph.constant(np.tile(bias, columns.made), f"{y}/bias")
    new.name = new.output[0] = made = graph.fresh(f"{y}/merged")
    _set(new, conv, columns)
    nodes.append(new)
    if clamp is not None:
        after = onnx.NodeProto()
        after.CopyFrom(clamp)
        after.input[0] = made
        after.name = after.output[0] = made = graph.fresh(f"{y}/clamped")
        nodes.append(after)
    nodes += _separate(graph, made, y, y_shape, columns)
    graph.replace(old, nodes)


def _set(new: onnx.NodeProto, conv: onnx.NodeProto, columns: _Columns) -> None:
    top, _, bottom, _ = attribute(conv, "pads", [0] * 4)
    changed = {
        "kernel_shape": list(columns.kernel.shape[2:]),
        "pads": [top, columns.left, bottom, columns.right],
        "strides": [attribute(conv, "strides", [1, 1])[0], 1],
    }
    kept = [a for a in conv.attribute if a.name not in (*changed, "auto_pad", "dilations")]
    del new.attribute[:]
    new.attribute.extend(kept)
    new.attribute.extend(helper.make_attribute(k, v) for k, v in changed.items())


def _viewed(
    graph: Graph, x: str, sizes: tuple[int, ...], hint: str
) -> tuple[list[onnx.NodeProto], str]:
    """x [N, C, H, W], as [N, H, W', C'] in NHWC and back as [N, C', H, W']."""
    moved, view, back = (graph.fresh(f"{hint}/{part}") for part in ("nhwc", "view", "nchw"))
    shape = graph.constant(np.array(sizes, np.int64), f"{hint}/shape")
    nodes = [
        graph.node("Transpose", [x], moved, perm=_TO_NHWC),
        graph.node("Reshape", [moved, shape], view),
        graph.node("Transpose", [view], back, perm=_TO_NCHW),
    ]
    return nodes, back


def _separate(
    graph: Graph, made: str, y: str, shape: tuple[int, ...], columns: _Columns
) -> list[onnx.NodeProto]:
    batch, outputs, height, width = shape
    nodes, _ = _viewed(graph, made, (batch, height, width + columns.cut, outputs), f"{y}/single")
    if columns.cut:
        _insert(graph, nodes, 2, "Slice", [np.array([n]) for n in (0, width, 2)])
    nodes[-1].output[0] = y
    nodes[-1].name = y
    return nodes


def _insert(
    graph: Graph, nodes: list[onnx.NodeProto], at: int, kind: str, given: list[Array]
) -> None:
    """Put a node with constants before nodes[at], in NHWC."""
    after = nodes[at]
    y = graph.fresh(f"{after.output[0]}/{kind.lower()}")
    held = [graph.constant(values.astype(np.int64), f"{y}/at") for values in given]
    nodes.insert(at, graph.node(kind, [after.input[0], *held], y))
    after.input[0] = y
