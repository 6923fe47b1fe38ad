"""Weights of matrix products in 4 bits, as WebGPU multiplies them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgepack.artifact import Format, ModelFile
from edgepack.errors import StepError
from edgepack.passes.int8_weights import summed_axes
from edgepack.passes.step import StepContext, StepResult
from edgepack.passes.stored import Arrays, Storage, Weight, node_name

_MICROSOFT = "com.microsoft"
#: 4 bits hold −8 to 7; MatMulNBits takes them as 0 to 15, and 8 as zero point where none is given.
_LOWEST, _ZERO, _HIGHEST = -8, 8, 15


@dataclass(frozen=True, kw_only=True)
class Int4Weights:
    """Constant right factors of MatMul and Gemm as 4-bit integers with a scale for each block, multiplied by MatMulNBits.

    They stay 4 bits in memory, on the GPU too. Other weights, and those of `float_nodes`, are stored as float16 or int8 and expanded
    when a session is created.

    Attributes:
        block: numbers along the summed axis that share a scale. A product whose axis is no multiple of it is left alone.
        accuracy_level: what the product may be computed in: 0 as the provider likes, 1 float32, 4 int8 activations.
        rest: how other weights are stored.
        smallest: numbers below which a weight stays as it is.
        float_nodes: nodes, by name (a nameless one's first output), left as they are.

    Source: onnxruntime, docs/ContribOperators.md, com.microsoft.MatMulNBits. Its own quantizer module needs one more package,
    holds the whole model in memory, and configures the root logger when it is imported; its numbers are the same (tested).
    """

    name: ClassVar[str] = "int4_weights"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = "int4-weights"
    needs_calibration: ClassVar[bool] = False
    needs_measuring: ClassVar[bool] = True

    block: Literal[16, 32, 64, 128, 256] = 32
    accuracy_level: Literal[0, 1, 4] = 0
    rest: Literal["float16", "int8"] = "float16"
    smallest: int = 256
    float_nodes: tuple[str, ...] = ()

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        storage = Storage(model, smallest=self.smallest)
        products = 0
        for weight in storage.weights():
            if all(self._takes(node, place, weight) for node, place in weight.takers):
                products += self._replace(storage, weight)
            else:
                self._store_otherwise(storage, weight)
        if not products:
            raise StepError(
                f"no weight of this model can be 4 bits: none is the right factor of a MatMul or Gemm over a multiple of {self.block} numbers",
                "use --precision int8-weights or fp16-weights, which take the weights of convolutions, too",
            )
        imports = storage.proto.opset_import
        if all(o.domain != _MICROSOFT for o in imports):
            imports.append(helper.make_opsetid(_MICROSOFT, 1))
        facts = {"int4_products": products}
        facts |= {f"{kind}_weights": count for kind, count in storage.counts.items()}
        result = storage.save(context.folder / f"{context.name}.onnx")
        return StepResult(model=result, changed=True, facts=facts)

    def _takes(self, node: onnx.NodeProto, place: int, weight: Weight) -> bool:
        """Whether MatMulNBits can do what the node does with the weight."""
        if place != 1 or len(weight.shape) != 2 or node_name(node) in self.float_nodes:
            return False
        floats = {a.name: a.f for a in node.attribute if a.name in ("alpha", "beta")}
        plain = node.op_type == "MatMul" or (
            node.op_type == "Gemm"
            and not _flag(node, "transA")
            and all(v == 1.0 for v in floats.values())
        )
        summed = weight.shape[1 if _flag(node, "transB") else 0]
        return plain and node.domain in ("", "ai.onnx") and summed % self.block == 0

    def _store_otherwise(self, storage: Storage, weight: Weight) -> None:
        reduced = summed_axes(weight)
        kept = any(node_name(node) in self.float_nodes for node, _ in weight.takers)
        if self.rest == "int8" and reduced is not None and not kept:
            storage.as_int8(weight, reduced, block=0)
        else:
            storage.as_float16(weight)

    def _replace(self, storage: Storage, weight: Weight) -> int:
        """Make MatMulNBits of every node that takes the weight; gives their number."""
        turned = {_flag(node, "transB") for node, _ in weight.takers}
        names = {
            turn: tuple(
                storage.new_name(f"{weight.tensor.name}_{part}{'_turned' if turn else ''}")
                for part in ("int4", "scale")
            )
            for turn in sorted(turned)
        }
        storage.remove(weight)
        for node, _ in weight.takers:
            turn = _flag(node, "transB")
            k, n = weight.shape[::-1] if turn else weight.shape
            self._rewrite(storage, node, names[turn], k, n)

        def arrays() -> Arrays:
            values = storage.values(weight)
            for turn, (integers, scale) in names.items():
                q, s = packed(values if turn else values.T, self.block)
                yield from ((integers, q), (scale, s))

        storage.add(arrays)
        return len(weight.takers)

    def _rewrite(
        self, storage: Storage, node: onnx.NodeProto, weight: tuple[str, ...], k: int, n: int
    ) -> None:
        bias = node.input[2] if len(node.input) > 2 else ""
        output = storage.new_name(f"{node.output[0]}_product") if bias else node.output[0]
        product = helper.make_node(
            "MatMulNBits",
            [node.input[0], *weight],
            [output],
            node_name(node),
            domain=_MICROSOFT,
            K=k,
            N=n,
            bits=4,
            block_size=self.block,
            accuracy_level=self.accuracy_level,
        )
        nodes = storage.proto.graph.node
        at = next(i for i, other in enumerate(nodes) if other.output[:1] == node.output[:1])
        if bias:
            sum_name = f"{node_name(node)}_bias"
            nodes.insert(at + 1, helper.make_node("Add", [output, bias], node.output, sum_name))
        nodes[at].CopyFrom(product)


def _flag(node: onnx.NodeProto, name: str) -> bool:
    return any(a.name == name and a.i for a in node.attribute)


def packed(rows: NDArray[np.float32], block: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Rows [N, K] as MatMulNBits takes its right factor: 4-bit integers, two a byte, [N, K/block, block/2], and scales [N·K/block].

    The number of a block that is largest in magnitude becomes −8, so that all sixteen integers are of use; the low half of a byte
    comes first.
    """
    n, k = rows.shape
    blocks = np.ascontiguousarray(rows).reshape(n, k // block, block)
    at = np.abs(blocks).argmax(axis=2, keepdims=True)
    scale = np.take_along_axis(blocks, at, axis=2) / np.float32(_LOWEST)
    inverse = np.where(scale != 0, np.float32(1) / np.where(scale != 0, scale, 1), 0)
    integers = np.floor(blocks * inverse + np.float32(_ZERO + 0.5)).clip(0, _HIGHEST)
    nibbles = integers.astype(np.uint8).reshape(n, k // block, block // 2, 2)
    return nibbles[..., 0] | nibbles[..., 1] << 4, scale.reshape(-1).astype(np.float32)
