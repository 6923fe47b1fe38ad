"""Takes complex tensors out of a TensorFlow graph before tf2onnx maps it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from edgepack.errors import ModelError
from edgepack.intake.tensorflow.handlers import complex_arithmetic as arithmetic
from edgepack.intake.tensorflow.handlers.fft import TRANSFORMS, transform
from edgepack.intake.tensorflow.handlers.pairs import PARTS, Pair, Writer

#: The complex tensors that were taken apart so far.
Pairs = dict[str, Pair]

#: Operators that do the same to the real and to the imaginary part.
_EACH_PART = frozenset(
    {
        "Add",
        "AddN",
        "AddV2",
        "BatchToSpaceND",
        "BroadcastTo",
        "Concat",
        "ConcatV2",
        "Cumsum",
        "DynamicStitch",
        "EnsureShape",
        "ExpandDims",
        "Fill",
        "Gather",
        "GatherNd",
        "GatherV2",
        "Identity",
        "MatrixDiag",
        "MatrixDiagV3",
        "Mean",
        "MirrorPad",
        "Neg",
        "Pack",
        "Pad",
        "PadV2",
        "ParallelDynamicStitch",
        "PreventGradient",
        "Reshape",
        "Reverse",
        "ReverseSequence",
        "ReverseV2",
        "Roll",
        "ScatterNd",
        "SegmentSum",
        "Select",
        "SelectV2",
        "Slice",
        "Snapshot",
        "SpaceToBatchND",
        "Split",
        "SplitV",
        "Squeeze",
        "StopGradient",
        "StridedSlice",
        "Sub",
        "Sum",
        "TensorScatterAdd",
        "TensorScatterUpdate",
        "Tile",
        "Transpose",
        "Unpack",
        "UnsortedSegmentSum",
        "ZerosLike",
    }
)
#: Operators that are linear in both of their inputs.
_PRODUCTS = frozenset({"BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "MatMul", "Mul"})
#: Operators that ask for the shape only, for which the real part will do.
_SHAPES = frozenset({"Rank", "Shape", "ShapeN", "Size"})
_QUOTIENTS = frozenset({"Div", "RealDiv"})


def split_complex(graph: Any, nodes: list[Any]) -> list[Any]:
    """The graph's nodes with a pair of real tensors for each complex one; a custom rewriter for tf2onnx's process_tf_graph.

    It runs on each function body as well, after tf2onnx's own rewriters and, for TFLite, after its operators became TensorFlow's.

    Raises:
        ModelError: a complex input or output of the model, or an operator on complex tensors without a rule.
    """
    if not any(n.type in TRANSFORMS or _makes_complex(graph, n) for n in nodes):
        return nodes
    for node in nodes:
        _reshape_before_abs(graph, node)
    graph.topological_sort(graph.get_nodes())
    pairs: Pairs = {}
    for node in list(graph.get_nodes()):
        if node.type in TRANSFORMS or _makes_complex(graph, node) or pairs.keys() & set(node.input):
            _replace(Writer(graph, node), pairs)
    for output in graph.outputs:
        if output in pairs:
            raise ModelError(
                f"the output {output} is complex, and ONNX runtimes have no complex tensors",
                "end the model with tf.abs, or give tf.math.real and tf.math.imag as two outputs",
            )
    graph.delete_unused_nodes(graph.outputs)
    return list(graph.get_nodes())


def _reshape_before_abs(graph: Any, node: Any) -> None:
    """Undo what tf2onnx's rewrite_tfl_rfft does: a Reshape of the spectrum moves behind its ComplexAbs.

    That is wrong where the ComplexAbs is the model's output, and its types and shapes are wrong everywhere.
    """
    if node.type != "Reshape" or not _makes_complex(graph, node):
        return
    norm = node.inputs[0]
    if norm is None or norm.type != "ComplexAbs":
        return
    spectrum, reshaped = norm.input[0], node.output[0]
    graph.replace_all_inputs(reshaped, norm.output[0])
    graph.replace_input(node, norm.output[0], spectrum, 0)
    graph.replace_input(norm, spectrum, reshaped, 0)


def _makes_complex(graph: Any, node: Any) -> bool:
    return any(graph.get_dtype(output) in PARTS for output in node.output)


def _replace(write: Writer, pairs: Pairs) -> None:
    """Write the parts of a node's outputs, or the real output that it makes of complex ones."""
    kind = write.node.type
    if kind in _EACH_PART:
        _each_part(write, pairs)
    elif kind in _SHAPES or (kind == "Cast" and not _makes_complex(write.graph, write.node)):
        for name in set(write.node.input) & pairs.keys():
            write.graph.replace_input(write.node, name, pairs[name].real)
    elif kind in _TO_REAL:
        write.finish(_TO_REAL[kind](write, pairs))
    elif kind in _TO_COMPLEX:
        pairs[write.node.output[0]] = _TO_COMPLEX[kind](write, pairs)
    else:
        _refuse(write)


def _refuse(write: Writer) -> NoReturn:
    name, kind = write.node.name, write.node.type
    if kind.startswith("Placeholder"):
        raise ModelError(
            f"the input {name} is complex, and ONNX runtimes have no complex tensors",
            "take the real and the imaginary part as two inputs and join them with tf.complex",
        )
    raise ModelError(
        f"{name} ({kind}) works on complex tensors, and there is no rewrite for that",
        "write it with tf.math.real and tf.math.imag, or end the model before it",
    )


def _operands(write: Writer, pairs: Pairs) -> list[Pair]:
    """The inputs; a real one has no imaginary part."""
    return [pairs.get(name, Pair(real=name)) for name in write.node.input]


def _each_part(write: Writer, pairs: Pairs) -> None:
    node = write.node
    inside = [name for name in node.input if name in pairs]
    if not inside:
        _refuse(write)

    def clone(inputs: list[str]) -> list[str]:
        like = next(c for c, name in zip(inputs, node.input, strict=True) if name in pairs)
        return write.tensorflow(node.type, inputs, node.attr, like=like)

    real = clone([p.real for p in _operands(write, pairs)])
    imag: list[str | None] = [None] * len(real)
    if any(pairs[name].imag for name in inside):
        imag = list(clone([write.imag(pairs[n]) if n in pairs else n for n in node.input]))
    for output, a, b in zip(node.output, real, imag, strict=True):
        pairs[output] = Pair(real=a, imag=b)


def _constant(write: Writer, pairs: Pairs) -> Pair:
    value = np.asarray(write.node.get_tensor_value(as_list=False))
    imag = write.const(value.imag) if value.imag.any() else None
    return Pair(real=write.const(value.real), imag=imag)


def _transform(write: Writer, pairs: Pairs) -> Pair:
    return transform(write, _operands(write, pairs)[0])


def _products(write: Writer, pairs: Pairs) -> Pair:
    a, b = _operands(write, pairs)
    adjoint = [name for name in ("adj_x", "adj_y") if write.node.get_attr_value(name, 0)]
    a = arithmetic.conjugate(write, a) if "adj_x" in adjoint else a
    b = arithmetic.conjugate(write, b) if "adj_y" in adjoint else b
    node = write.node

    def real(x: str, y: str) -> str:
        return write.tensorflow(node.type, [x, y], node.attr)[0]

    return arithmetic.product(write, a, b, real)


def _ones(write: Writer, pairs: Pairs) -> Pair:
    (a,) = _operands(write, pairs)
    return Pair(real=write.tensorflow("OnesLike", [a.real])[0])


def _square(write: Writer, pairs: Pairs) -> Pair:
    (a,) = _operands(write, pairs)
    return arithmetic.product(write, a, a, lambda x, y: write.onnx("Mul", [x, y]))


def _conjugate_transpose(write: Writer, pairs: Pairs) -> Pair:
    a, order = _operands(write, pairs)
    real, imag = (
        write.tensorflow("Transpose", [part, order.real])[0] if part else None
        for part in (a.real, a.imag)
    )
    assert real is not None
    return arithmetic.conjugate(write, Pair(real=real, imag=imag))


def _cast(write: Writer, pairs: Pairs) -> Pair:
    """Complex from real, or of another width."""
    (a,) = _operands(write, pairs)
    to = PARTS[write.dtype(write.node.output[0])]
    shapes = write.shapes()

    def part(name: str) -> str:
        if write.dtype(name) == to:
            return name
        made = write.graph.make_node(
            "Cast",
            [name],
            attr={"to": to},
            shapes=shapes,
            dtypes=[to],
            name=f"{write.node.name}#{name}",
        )
        return str(made.output[0])

    return Pair(real=part(a.real), imag=part(a.imag) if a.imag else None)


def _angle(write: Writer, pairs: Pairs) -> str:
    """In (−π, π]: a bin's imaginary part is a sum, whose sign says nothing when it is 0."""
    (a,) = _operands(write, pairs)
    return write.tensorflow("Atan2", [write.imag(a), a.real], {"plain_zeros": 1})[0]


_TO_REAL: dict[str, Callable[[Writer, Pairs], str]] = {
    "Angle": _angle,
    "ComplexAbs": lambda write, pairs: arithmetic.norm(write, _operands(write, pairs)[0]),
    "Imag": lambda write, pairs: write.imag(_operands(write, pairs)[0]),
    "Real": lambda write, pairs: _operands(write, pairs)[0].real,
    # tf2onnx knows no TensorFlow operator for these two of TFLite's.
    "TFL_IMAG": lambda write, pairs: write.imag(_operands(write, pairs)[0]),
    "TFL_REAL": lambda write, pairs: _operands(write, pairs)[0].real,
    **{
        kind: lambda write, pairs: _transform(write, pairs).real
        for kind in TRANSFORMS
        if kind.startswith("IRFFT")
    },
}
_TO_COMPLEX: dict[str, Callable[[Writer, Pairs], Pair]] = {
    "Cast": _cast,
    "Complex": lambda write, _: Pair(real=write.node.input[0], imag=write.node.input[1]),
    "Conj": lambda write, pairs: arithmetic.conjugate(write, _operands(write, pairs)[0]),
    "ConjugateTranspose": _conjugate_transpose,
    "Const": _constant,
    "Exp": lambda write, pairs: arithmetic.exponential(write, _operands(write, pairs)[0]),
    "OnesLike": _ones,
    "Square": _square,
    **{kind: _transform for kind in TRANSFORMS if not kind.startswith("IRFFT")},
    **dict.fromkeys(_PRODUCTS, _products),
    **{
        kind: lambda write, pairs: arithmetic.quotient(write, *_operands(write, pairs))
        for kind in _QUOTIENTS
    },
}
