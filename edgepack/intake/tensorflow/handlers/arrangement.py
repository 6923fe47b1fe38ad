"""Shapes, diagonals and the order of elements.

Source, unless another is named: TensorFlow 2.21, the operators' documentation in tf.raw_ops.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from edgepack.intake.tensorflow.handlers.formula import Formula, Value

_INT64 = onnx.TensorProto.INT64


def shape_n(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the shapes of all inputs."""
    f = Formula(ctx, node)
    f.finish(*[f("Shape", x) for x in f.inputs])


def broadcast_args(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the shape that two shapes broadcast to."""
    f = Formula(ctx, node)
    ones = [
        f(
            "ConstantOfShape",
            f.cast(s, _INT64),
            value=onnx.helper.make_tensor("value", _INT64, [1], [1]),
        )
        for s in f.inputs
    ]
    f.finish(f("Shape", f("Mul", *ones)))


def unravel_index(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write the places of flat indices in an array of given sizes: [sizes, indices]."""
    f = Formula(ctx, node)
    indices, sizes = f.cast(f.inputs[0], _INT64), f.known(1, "the array's shape").astype(np.int64)
    steps = np.array([int(np.prod(sizes[i + 1 :])) for i in range(len(sizes))], np.int64)
    column = [-1] + [1] * f.rank(indices)
    whole = f("Div", f.unsqueeze(indices, 0), steps.reshape(column))
    f.finish(f("Mod", whole, sizes.reshape(column)))


def reverse(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Reverse, the version that takes a flag for each axis."""
    f = Formula(ctx, node)
    x = f.inputs[0]
    last = np.iinfo(np.int64).min
    for axis in np.flatnonzero(f.known(1, "the axes")):
        x = f.slice(x, -1, int(last), int(axis), -1)
    f.finish(x)


def tensor_diag(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Diag: a tensor of twice the rank with x on its diagonal."""
    f = Formula(ctx, node)
    x = f.inputs[0]
    sizes = f.sizes(x)
    flat = f.reshape(x, -1)
    place = f.range(f.size(flat, 0))
    on = f("Equal", f.unsqueeze(place, 0), f.unsqueeze(place, 1))
    square = f.where(on, flat, _zero(f, x))
    f.finish(f("Reshape", square, f("Concat", sizes, sizes, axis=0)))


def tensor_diag_part(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write DiagPart: the diagonal of a tensor whose shape is a shape twice over."""
    f = Formula(ctx, node)
    x = f.inputs[0]
    sizes = f.slice(f.sizes(x), 0, f.rank(x) // 2, 0)
    count = f.reduce("ReduceProd", sizes, keepdims=True)
    square = f("Reshape", x, f("Concat", count, count, axis=0))
    place = f.unsqueeze(f.range(f.squeeze(count, 0)), 1)
    f.finish(f("Reshape", f("GatherElements", square, place, axis=1), sizes))


def roll(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write Roll: slices from both sides of the place that comes first, which a shift of any size has.

    tf2onnx 1.17 writes a broken Slice for a shift beyond the axis.
    """
    f = Formula(ctx, node)
    x = f.inputs[0]
    shifts = f.reshape(f.cast(f.inputs[1], _INT64), -1)
    for i, axis in enumerate(np.ravel(f.known(2, "the axis"))):
        at = np.array([int(axis) % f.rank(x)], np.int64)
        size = f.reshape(f.size(x, int(at[0])), 1)
        shift = f.slice(shifts, i, i + 1, 0)
        begin = f("Mod", f("Neg", shift), size)
        tail = f("Slice", x, begin, size, at)
        head = f("Slice", x, np.zeros(1, np.int64), begin, at)
        x = f("Concat", tail, head, axis=int(at[0]))
    f.finish(x)


def reverse_sequence(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write ReverseSequence for any two axes; onnxruntime's operator takes the first two only."""
    f = Formula(ctx, node)
    x, lengths = f.inputs
    rank = f.rank(x)
    time, batch = int(f.attribute("seq_dim")) % rank, int(f.attribute("batch_dim", 0)) % rank
    order = [batch, time, *(i for i in range(rank) if i not in (batch, time))]
    moved = order != list(range(rank))
    x = f("Transpose", x, perm=order) if moved else x
    x = f("ReverseSequence", x, f.cast(lengths, _INT64), batch_axis=0, time_axis=1)
    f.finish(f("Transpose", x, perm=[order.index(i) for i in range(rank)]) if moved else x)


def update_slice(ctx: Any, node: Any, name: str, args: list[Any]) -> None:
    """Write XlaDynamicUpdateSlice, with which Keras' slice_update fills caches: the update in its place, which it is pushed into.

    Source: XLA operation semantics, DynamicUpdateSlice: the start is clamped to between 0 and the size less the update's.
    """
    f = Formula(ctx, node)
    x, update, start = f.inputs
    room = f("Sub", f.sizes(x), f.sizes(update))
    before = f("Min", f("Max", f.cast(start, _INT64), np.zeros(1, np.int64)), room)
    pads = f("Concat", before, f("Sub", room, before), axis=0)
    ones = f(
        "ConstantOfShape", f.sizes(update), value=onnx.helper.make_tensor("value", 1, [1], [1])
    )
    here = f("Greater", f("Pad", ones, pads), 0.5)
    f.finish(f.where(here, f("Pad", update, pads), x))


def _zero(f: Formula, x: Value) -> Value:
    return np.zeros((), onnx.helper.tensor_dtype_to_np_dtype(f.dtype(x)))


FAMILY = {
    "BroadcastArgs": broadcast_args,
    "Diag": tensor_diag,
    "DiagPart": tensor_diag_part,
    "Reverse": reverse,
    "ReverseSequence": reverse_sequence,
    "Roll": roll,
    "ShapeN": shape_n,
    "UnravelIndex": unravel_index,
    "XlaDynamicUpdateSlice": update_slice,
}
