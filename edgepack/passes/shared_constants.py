"""A constant of its own for each operator that is quantized.

onnxruntime turns signed constants into unsigned ones on x86 CPUs that need it, one DequantizeLinear after the other, and fails where
two of them read the same integers ("Attempt to replace the existing tensor"; onnxruntime 1.32, core/optimizer/qdq_transformer/
qdq_s8_to_u8.cc). It gives every taker a DequantizeLinear of its own first, so any shared constant does.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection

import onnx

#: So many copies in 8 bits weigh as much as the one in 32 bits that they stand for: a heavier constant with more takers stays as it is.
_MOST_COPIES, _LIGHT = 4, 1 << 14


def give_each_its_own(proto: onnx.ModelProto, operators: Collection[str]) -> tuple[str, ...]:
    """Copy, in place, float constants that several nodes of these operators take.

    Returns: names of the nodes whose constant is too heavy to be copied so often; they cannot be quantized.
    """
    takers: dict[str, list[tuple[onnx.NodeProto, int]]] = defaultdict(list)
    for node in proto.graph.node:
        for place, name in enumerate(node.input):
            if node.op_type in operators:
                takers[name].append((node, place))
    taken = {name for node in proto.graph.node for name in (*node.input, *node.output)}
    left: list[str] = []
    for tensor in list(proto.graph.initializer):
        uses = takers[tensor.name]
        if tensor.data_type != onnx.TensorProto.FLOAT or len(uses) < 2:
            continue
        if len(uses) > _MOST_COPIES and math.prod(tensor.dims) > _LIGHT:
            left += [node.name for node, _ in uses]
            continue
        for node, place in uses[1:]:
            copy = proto.graph.initializer.add()
            copy.CopyFrom(tensor)
            copy.name = node.input[place] = _free(tensor.name, taken)
    return tuple(dict.fromkeys(left))


def _free(name: str, taken: set[str]) -> str:
    """A name that nobody has; it is taken from now on."""
    number = 1
    while f"{name}/{number}" in taken:
        number += 1
    taken.add(f"{name}/{number}")
    return f"{name}/{number}"
