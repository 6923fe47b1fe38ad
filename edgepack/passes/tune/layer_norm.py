"""A layer normalization written out in full, as one operator."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from edgepack.passes.tune.graph import Array, Graph, along, attribute

_FIRST_OPSET = 17


@dataclass(frozen=True, kw_only=True)
class _Norm:
    """(x − mean)·scale/√(variance + epsilon) + shift, along one axis."""

    x: str
    y: str
    axis: int
    rank: int
    epsilon: float
    scale: Array
    shift: Array


def name_layer_norm(graph: Graph) -> int:
    """x·r + (β − μ·r) with r = γ/√(σ² + ε), as Keras writes it, in seven passes over x → LayerNormalization.

    Along the channels of x [N, C, H, W] it stands between two Transposes, of which the second is often met by its inverse.
    """
    done = 0
    for add in graph.nodes("Add") if graph.opset >= _FIRST_OPSET else ():
        norm = _norm(graph, add)
        if norm is not None:
            graph.replace([add], _named(graph, norm))
            done += 1
    return done


def _norm(graph: Graph, add: onnx.NodeProto) -> _Norm | None:
    for scaled, rest in (tuple(add.input), tuple(reversed(add.input))):
        product = graph.maker(scaled, "Mul")
        if product is None:
            continue
        for x, inverse in (tuple(product.input), tuple(reversed(product.input))):
            norm = _of(graph, add.output[0], x, inverse, rest)
            if norm is not None:
                return norm
    return None


def _of(graph: Graph, y: str, x: str, inverse: str, rest: str) -> _Norm | None:
    """The normalization, if `inverse` is r and `rest` is β − μ·r."""
    shape = graph.shape(x)
    root, scale = _split(graph, inverse, "Mul")
    moved, shift = _split(graph, rest, "Add")
    less = graph.maker(moved, "Mul")
    reciprocal = graph.maker(root, "Reciprocal")
    sqrt = reciprocal and graph.maker(reciprocal.input[0], "Sqrt")
    if shape is None or less is None or not sqrt or inverse not in less.input:
        return None
    mean = _negated(graph, next((n for n in less.input if n != inverse), ""))
    variance, epsilon = _split(graph, sqrt.input[0], "Add")
    axis = _mean_axis(graph, mean, x)
    if axis is None or epsilon is None or epsilon.size != 1 or epsilon.ndim > len(shape):
        return None
    if not _is_variance(graph, variance, x, mean, axis):
        return None
    one, none = np.ones(1, np.float32), np.zeros(1, np.float32)
    scale = along(one if scale is None else scale, shape, axis)
    shift = along(none if shift is None else shift, shape, axis)
    if scale is None or shift is None:
        return None
    return _Norm(
        x=x,
        y=y,
        axis=axis,
        rank=len(shape),
        epsilon=float(epsilon.reshape(-1)[0]),
        scale=scale,
        shift=shift,
    )


def _split(graph: Graph, name: str, kind: str) -> tuple[str, Array | None]:
    """(a, c) where `name` is a·c, or a + c, with a constant c; (name, None) otherwise."""
    node = graph.maker(name, kind)
    for a, c in (tuple(node.input), tuple(reversed(node.input))) if node is not None else ():
        values = graph.floats(c)
        if values is not None:
            return a, values
    return name, None


def _negated(graph: Graph, name: str) -> str:
    node = graph.maker(name, "Neg")
    return node.input[0] if node is not None else ""


def _mean_axis(graph: Graph, mean: str, x: str) -> int | None:
    """The axis, if `mean` is that of x along one of them, which stays as a size of 1."""
    node, shape = graph.maker(mean, "ReduceMean"), graph.shape(x)
    if node is None or shape is None or node.input[0] != x or attribute(node, "keepdims", 1) != 1:
        return None
    axes = attribute(node, "axes")
    if axes is None and len(node.input) > 1:
        held = graph.value(node.input[1])
        axes = None if held is None else held.tolist()
    return axes[0] % len(shape) if axes is not None and len(axes) == 1 else None


def _is_variance(graph: Graph, name: str, x: str, mean: str, axis: int) -> bool:
    reduce = graph.maker(name, "ReduceMean")
    square = graph.maker(reduce.input[0], "Mul") if reduce is not None else None
    if square is None or square.input[0] != square.input[1]:
        return False
    away = graph.maker(square.input[0], "Sub")
    if away is None or away.input[0] != x or _mean_axis(graph, name, square.output[0]) != axis:
        return False
    same = graph.maker(away.input[1], "Reshape")
    shaped = same is not None and graph.shape(same.input[0]) == graph.shape(same.output[0])
    return bool(away.input[1] == mean or (same and shaped and same.input[0] == mean))


def _named(graph: Graph, norm: _Norm) -> list[onnx.NodeProto]:
    constants = [
        graph.constant(norm.scale, f"{norm.y}/scale"),
        graph.constant(norm.shift, f"{norm.y}/shift"),
    ]
    last = norm.axis == norm.rank - 1
    before, after = norm.x, norm.y
    nodes = []
    if not last:
        others = [i for i in range(norm.rank) if i != norm.axis]
        order = [*others, norm.axis]
        before, after = graph.fresh(f"{norm.y}/last"), graph.fresh(f"{norm.y}/normal")
        back = [order.index(i) for i in range(norm.rank)]
        nodes += [graph.node("Transpose", [norm.x], before, perm=order)]
        nodes += [graph.node("Transpose", [after], norm.y, perm=back)]
    normal = graph.node(
        "LayerNormalization", [before, *constants], after, axis=-1, epsilon=norm.epsilon
    )
    return [*nodes, normal]
