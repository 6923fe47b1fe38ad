"""Static INT8 with QuantizeLinear/DequantizeLinear pairs, by the target's recipe."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from edgepack import onnxfile, skeleton, weights
from edgepack.artifact import Format, ModelFile
from edgepack.calibrate.calibrator import Calibrator, Observed
from edgepack.calibrate.methods import Method, MethodName
from edgepack.calibrate.observation import Observation
from edgepack.errors import StepError, UsageError
from edgepack.legality.graph import GraphView
from edgepack.legality.macs import total_macs
from edgepack.passes.bias_correction import (
    affordable_feeds,
    bias_shifts,
    bias_values,
    biased_layers,
    set_biases,
)
from edgepack.passes.shared_constants import give_each_its_own
from edgepack.passes.step import StepContext, StepResult

_TYPES = {"int8": QuantType.QInt8, "uint8": QuantType.QUInt8}
#: What multiplies matrices, and what moves, clips or picks their values without making new ones.
_PRODUCTS = frozenset(
    ("Conv", "ConvTranspose", "Gemm", "MatMul", "Clip", "Flatten", "Gather", "MaxPool", "Pad", "Relu", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze")
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Int8:
    """onnxruntime's static quantization, ranges from the calibration data.

    Attributes:
        activations, weights: the integer type of each.
        symmetric: zero points of activations are 0 (weights of type int8 always are). TensorRT takes nothing else.
        per_channel: one scale per output channel of a weight instead of one per tensor.
        reduce_range: weights of 7 bits: two products of them with 8 bits fit into 16, in which x86 CPUs before VNNI add.
        quantize_bias: store biases as int32; TensorRT refuses the DequantizeLinear that comes with it
            (onnxruntime#14229, TensorRT#2774).
        weight_pairs: keep weights in float with a Q/DQ pair, as TensorRT's explicit quantization wants them.
        dedicated_pairs: a Q/DQ pair of its own for each consumer of a tensor.
        float_operators: operator types left in float.
        products_only: leave sums, elementwise products, means, functions in float: nearly no arithmetic, and in normalizations and
            activations of transformers most of the error.
        float_outputs: operator types whose outputs are not quantized.
        float_nodes: nodes, by name, left in float.
        bias_correction: give back to biases what rounding shifts on average, see `passes.bias_correction`.
        method, percentile: how ranges are chosen, see `calibrate.methods`.
    """

    name: ClassVar[str] = "int8"
    accepts: ClassVar[Format] = Format.ONNX
    produces: ClassVar[Format] = Format.ONNX
    precision: ClassVar[str | None] = "int8"
    needs_calibration: ClassVar[bool] = True
    needs_measuring: ClassVar[bool] = True

    activations: Literal["int8", "uint8"] = "int8"
    weights: Literal["int8", "uint8"] = "int8"
    symmetric: bool = False
    per_channel: bool = True
    reduce_range: bool = False
    quantize_bias: bool = True
    weight_pairs: bool = False
    dedicated_pairs: bool = False
    float_operators: tuple[str, ...] = ("Softmax",)
    products_only: bool = False
    float_outputs: tuple[str, ...] = ()
    float_nodes: tuple[str, ...] = ()
    bias_correction: bool = True
    method: MethodName = "minmax"
    percentile: float = 99.999

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        if context.calibrator is None:
            raise UsageError("int8 needs calibration data", "give --calibration FILE.npz")
        given = onnxfile.load(model)
        if onnxfile.is_half(given):
            raise StepError(
                "the model computes in float16, and the scales of QuantizeLinear are float32 before operator set 19",
                "give the float32 model it was made from, or use --precision fp16",
            )
        if onnxfile.is_quantized(given):
            self._require_legal(given, model.path.parent)
            return StepResult(model=model, changed=False, facts={"skipped": "quantized already"})
        quantized = context.folder / f"{context.name}.quantized.onnx"
        with _quiet():
            try:
                observed = context.calibrator.observed(model)
            except (ValueError, RuntimeError, TypeError, AssertionError) as error:
                raise StepError(
                    f"onnxruntime cannot prepare this graph for its quantizer: {error}",
                    "use --precision fp16 or fp32 for this target",
                ) from error
            try:
                corrected = self._quantize(observed, context.calibrator, quantized)
            except (ValueError, RuntimeError, TypeError, AssertionError) as error:
                raise _cannot_take(error, observed) from error
        proto = skeleton.read(quantized)
        counts = Counter(n.op_type for n in proto.graph.node)
        onnxfile.trim(proto)
        facts = {
            "calibration_samples": observed.observation.samples,
            "calibration_sha256": context.calibrator.samples.digest,
            "quantize_nodes": counts["QuantizeLinear"],
            "dequantize_nodes": counts["DequantizeLinear"],
            **corrected,
        }
        if not counts["DequantizeLinear"]:
            raise StepError(
                "no operator of this model can be quantized", "use --precision fp16 or fp32"
            )
        path = context.folder / f"{context.name}.onnx"
        result = onnxfile.save(proto, path, folder=context.folder)
        for file in context.folder.glob(f"{quantized.name}*"):
            file.unlink()
        return StepResult(model=result, changed=True, facts=facts)

    def _quantize(
        self, observed: Observed, calibrator: Calibrator, path: Path
    ) -> Mapping[str, Any]:
        """Write the prepared model, quantized, to `path`; says what was done to biases."""
        prepared = onnx.load(observed.prepared.path)
        count = affordable_feeds(total_macs(GraphView.of(observed.prepared)))
        layers = biased_layers(prepared) if self.bias_correction and count else []
        biases = bias_values(prepared, layers)
        quantizer = self._quantizer(prepared, observed.observation)
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        facts: dict[str, Any] = {}
        if layers:
            feeds = calibrator.samples.spread_feeds(observed.prepared.inputs, count)
            axes = {layer.output: layer.axis for layer in layers}
            wanted = calibrator.channel_means(observed.prepared, axes, feeds)
            try:
                shifts, samples = bias_shifts(quantizer.model.model, layers, wanted, feeds)
            except StepError as error:
                # What the model loses without is measured, as always.
                shifts, samples = {}, 0
                facts["bias_correction"] = f"not done: {error.cause}"
            set_biases(quantizer.model.model, {n: biases[n] + d for n, d in shifts.items()})
            facts |= {"corrected_biases": len(shifts), "correction_samples": samples}
        quantizer.model.save_model_to_file(path, bool(observed.prepared.beside))
        return facts

    def _quantizer(self, prepared: onnx.ModelProto, observation: Observation) -> QDQQuantizer:
        """onnxruntime's, of the prepared model, which it will change."""
        method = Method(name=self.method, percentile=self.percentile, symmetric=self.symmetric)
        ranges = {
            name: (np.float32(low), np.float32(high))
            for name, (low, high) in method.ranges(observation).items()
        }
        operators = self._operators(prepared)
        heavy = give_each_its_own(prepared, operators)
        return QDQQuantizer(
            prepared,
            self.per_channel,
            self.reduce_range,
            _TYPES[self.weights],
            _TYPES[self.activations],
            TensorsData(CalibrationMethod.MinMax, ranges),
            [],
            [*self.float_nodes, *heavy],
            operators,
            {
                "ActivationSymmetric": self.symmetric,
                "WeightSymmetric": self.weights == "int8",
                "QuantizeBias": self.quantize_bias,
                "AddQDQPairToWeight": self.weight_pairs,
                "DedicatedQDQPair": self.dedicated_pairs,
                "OpTypesToExcludeOutputQuantization": list(self.float_outputs),
            },
        )

    def _require_legal(self, given: onnx.ModelProto, folder: Path) -> None:
        """Raises StepError: a model that came quantized is not so in the way the target takes."""
        constants = {i.name: i for i in given.graph.initializer}
        points = [
            (node, constants[node.input[2]])
            for node in given.graph.node
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
            and len(node.input) > 2
            and node.input[2] in constants
        ]
        for node, point in points:
            kind = onnx.TensorProto.DataType.Name(point.data_type).lower()
            crooked = self.symmetric and bool(weights.array(point, folder).any())
            if kind not in (self.activations, self.weights, "int32") or crooked:
                what = "not symmetric" if crooked else kind
                raise StepError(
                    f"the model is quantized already, and {node.name or node.output[0]} is {what}, which this target does not take",
                    "give the float model it was made from, or use --precision fp32",
                )

    def _operators(self, model: onnx.ModelProto) -> list[str]:
        """The graph's operator types that onnxruntime can quantize, less those to be left in float."""
        from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

        legal = set(QDQRegistry) | set(QLinearOpsRegistry)
        present = {n.op_type for n in model.graph.node}
        if self.products_only:
            legal &= _PRODUCTS
        return sorted((present & legal) - set(self.float_operators))


def _cannot_take(error: Exception, observed: Observed) -> StepError:
    """What onnxruntime's quantizer means: most often that it has no range for a tensor which held nothing finite."""
    count = observed.observation.samples
    for name, values in observed.observation.values.items():
        if not values.feeds and name in str(error):
            return StepError(
                f"tensor {name!r} held no finite value on any of the {count} calibration samples: there is no range for it",
                "check that the samples are in the model's own preprocessing, or use --precision fp16 or fp32 for this target",
            )
    return StepError(
        f"onnxruntime's quantizer cannot take this graph: {error}",
        "use --precision fp16 or fp32 for this target",
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises, on the root logger, what was just done; and logs each node it leaves alone."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
