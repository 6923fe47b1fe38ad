"""Weights in a quarter of the bytes, arithmetic in float32."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import onnx

from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.step import StepContext, StepResult
from edgepack.passes.stored import Storage, Weight, node_name

_RECURRENT = ("LSTM", "GRU", "RNN")
#: Numbers that share a scale of 4 bytes, at least.
_FEWEST = 5


@dataclass(frozen=True, kw_only=True)
class Int8Weights:
    """Weights as symmetric int8, multiplied by their scales once, when a session is created. It needs no calibration data.

    Weights that are not multiplied with (what is added, say), and those of `float_nodes`, are stored as float16.

    Attributes:
        per_channel: one scale for each output channel instead of one for all.
        block: numbers of a channel that share a scale; 0: all of them.
        smallest: numbers below which a weight stays in float32.
        float_nodes: nodes, by name (a nameless one's first output), whose weights are not quantized.
    """

    name: ClassVar[str] = "int8_weights"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = "int8-weights"
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = True

    per_channel: bool = True
    block: int = 0
    smallest: int = 256
    float_nodes: tuple[str, ...] = ()

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        storage = Storage(model, smallest=self.smallest)
        for weight in storage.weights():
            reduced = summed_axes(weight)
            if reduced is None or any(node_name(n) in self.float_nodes for n, _ in weight.takers):
                storage.as_float16(weight)
            else:
                every = tuple(range(len(weight.shape)))
                storage.as_int8(weight, reduced if self.per_channel else every, self.block)
        if not storage.counts["int8"]:
            raise StepError(
                "no weight of this model can be stored as int8: none is large enough and multiplied with",
                "use --precision fp16-weights or fp32",
            )
        facts = {f"{kind}_weights": count for kind, count in storage.counts.items()}
        result = storage.save(context.folder / f"{context.name}.onnx")
        return StepResult(model=result, changed=True, facts=facts)


def summed_axes(weight: Weight) -> tuple[int, ...] | None:
    """The axes of a weight over which its first taker sums: what is left are output channels. None: it is not multiplied with, or so
    few numbers share a channel's scale that float16 takes no more room.

    Source: onnx, docs/Operators.md, the weights' shapes. A table's rows (Gather) are channels, too.
    """
    for node, place in weight.takers:
        axes = _summed(node, place, len(weight.shape))
        if axes and math.prod(weight.shape[a] for a in axes) >= _FEWEST:
            return axes
    return None


def _summed(node: onnx.NodeProto, place: int, rank: int) -> tuple[int, ...] | None:
    if rank < 2:
        return None
    every = range(rank)
    flags = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv" and place == 1:
        return tuple(every[1:])
    if node.op_type == "ConvTranspose" and place == 1:
        # [inputs, outputs/group, …]: with groups the outputs lie on both axes.
        return tuple(a for a in every if a != 1) if flags.get("group", 1) == 1 else tuple(every[2:])
    if node.op_type == "MatMul":
        return (rank - 1,) if place == 0 else (rank - 2,)
    if node.op_type == "Gemm" and place < 2:
        turned = flags.get("transB" if place else "transA", 0)
        return (1,) if bool(turned) == bool(place) else (0,)
    if node.op_type == "Gather" and place == 0:
        return tuple(a for a in every if a != flags.get("axis", 0) % rank)
    if node.op_type in _RECURRENT and place in (1, 2):
        return (rank - 1,)
    return None
