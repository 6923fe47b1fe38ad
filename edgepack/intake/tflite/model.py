"""A TFLite model: opened, converted with tf2onnx, and asked. Imported in the child process only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from edgepack import onnxfile
from edgepack.errors import ModelError, UsageError
from edgepack.intake.canonical import drop_unneeded, number_names, set_edges
from edgepack.intake.leftovers import refuse_leftovers
from edgepack.intake.mapping import OPSET, Handlers
from edgepack.intake.quantized_weights import separate_quantized_weights
from edgepack.intake.request import IntakeRequest
from edgepack.intake.tflite.convert import to_onnx
from edgepack.intake.tflite.edges import signature_names, specs
from edgepack.intake.tflite.flatbuffer import Graph, graphs, ints, text, write
from edgepack.intake.tflite.interpreter import Interpreter
from edgepack.intake.tflite.plain import load, make_plain

#: What dynamic-range kernels may be off by, as a share of the output's largest value: more is no rounding. (FER's: 1.4 %.)
_MOST_ROUNDING = 0.05


def open_tflite(path: Path, request: IntakeRequest, handlers: Handlers) -> TFLiteModel:
    """The model at `path`, in the part the request asks for.

    Raises:
        ModelError: it is damaged, or has no such part.
        UsageError: the request asks for other inputs.
    """
    if request.inputs:
        raise UsageError(
            f"{path.name} is a TFLite model, whose inputs cannot be chosen",
            "leave --inputs out; --outputs works",
        )
    return TFLiteModel(path, request.signature, request.outputs, handlers)


class TFLiteModel:
    """One signature of a TFLite file.

    Attributes:
        framework: what answers.
        inputs, outputs: names of the signature, or the tensors' own made clean; free dimensions have names.
        approximate: TFLite's own kernels round activations on the way; `answer` says by how much.
    """

    def __init__(
        self,
        path: Path,
        signature: str | None = None,
        outputs: tuple[str, ...] = (),
        handlers: Handlers | None = None,
    ) -> None:
        import tensorflow as tf

        self._path, self._handlers = path, handlers or {}
        original, chosen = load(path, signature, outputs)
        main = graphs(original)[0]
        names = signature_names(main, chosen)
        self.inputs = specs(main, ints(main.subgraph.inputs), names[0], "input")
        taken = [s.name for s in self.inputs]
        self.outputs = specs(main, ints(main.subgraph.outputs), names[1], "output", taken)
        if not self.inputs or not self.outputs:
            raise ModelError(
                f"{path.name} has no {'outputs' if self.inputs else 'inputs'}",
                "give a model with at least one input and one output",
            )
        plain = make_plain(load(path, signature, outputs)[0])
        self._steps = _output_steps(main)
        self.approximate = bool(plain.hybrid) or any(self._steps)
        self._plain = write(plain.model)
        self._source = self._plain if plain.spelled_out else write(original)
        self._hybrid = plain.hybrid
        self._model, self._names = plain.model, plain.names
        self._interpreters: dict[bytes, Interpreter] = {}
        self.framework = f"tensorflow {tf.__version__} (tf.lite.Interpreter, built-in kernels)"
        if plain.spelled_out:
            self.framework += f", {', '.join(plain.spelled_out)} as built-in operators"

    @classmethod
    def open(
        cls, path: Path, signature: str | None = None, outputs: tuple[str, ...] = ()
    ) -> TFLiteModel:
        """Raises ModelError: no TFLite file, a damaged one, or one without that signature or those outputs."""
        return cls(path, signature, outputs)

    def convert(self, path: Path, handlers: Mapping[str, tuple[Any, ...]] | None = None) -> None:
        """Write ONNX with the user's names, named free dimensions, and names that do not change from run to run.

        Raises:
            ModelError: tf2onnx fails, or leaves operators that ONNX does not have; every one is listed.
        """
        made = graphs(self._model)[0]
        inputs, outputs = (
            [text(made.tensors[i].name) for i in ints(indices)]
            for indices in (made.subgraph.inputs, made.subgraph.outputs)
        )
        if set(outputs) <= set(inputs):
            # Nothing is computed: set_edges puts in a node for each output.
            nothing = helper.make_graph([], "edgepack", [], [])
            proto = helper.make_model_gen_version(
                nothing, opset_imports=[helper.make_opsetid("", OPSET)]
            )
        else:
            with TemporaryDirectory(dir=path.parent) as folder:
                plain = Path(folder) / "plain.tflite"
                plain.write_bytes(self._computed(made))
                proto = self._to_onnx(plain, {**self._handlers, **(handlers or {})})
        drop_unneeded(proto)
        refuse_leftovers(proto)
        set_edges(
            proto,
            list(zip(inputs, self.inputs, strict=True)),
            list(zip(outputs, self.outputs, strict=True)),
        )
        separate_quantized_weights(proto.graph)
        number_names(proto)
        onnxfile.trim(proto)
        onnxfile.save(proto, path)

    def _to_onnx(self, plain: Path, handlers: Handlers) -> onnx.ModelProto:
        """What tf2onnx makes of it; nodes and messages name tensors as the file does."""
        try:
            proto = to_onnx(plain, handlers)
        except ModelError as error:
            cause = re.sub(r"s\d+/t\d+", lambda m: self._names.get(m[0], m[0]), error.cause)
            raise ModelError(cause, error.fix) from error
        for node in proto.graph.node:
            node.name = self._names.get(node.name.removesuffix("_prequant"), node.name)
        return proto

    def _computed(self, graph: Graph) -> bytes:
        """The plain flatbuffer with each output once and none that is an input, on which tf2onnx 1.17 turns in circles."""
        indices, inputs = ints(graph.subgraph.outputs), ints(graph.subgraph.inputs)
        computed = [i for i in dict.fromkeys(indices) if i not in inputs]
        if computed == indices:
            return self._plain
        graph.subgraph.outputs = computed
        try:
            return write(self._model)
        finally:
            graph.subgraph.outputs = indices

    def answer(self, feeds: Path, answers: Path) -> None:
        """Run the arrays of one .npz through the model into another, both by position.

        If the model is `approximate`, the answers hold a number `step_<i>` beside each `arr_<i>`: how far off the output may be
        for the rounding that TFLite does, in the output's own unit. For an output that is quantized, one quantization step; for
        dynamic-range kernels, what they differ by, on these feeds, from the same weights in float32, if that can be rounding.

        Raises:
            ModelError: TFLite fails on these inputs.
        """
        with np.load(feeds) as loaded:
            flat = [loaded[f"arr_{i}"] for i in range(len(self.inputs))]
        values = self._run(self._source, flat)
        steps = list(self._steps)
        if self._hybrid and self._source is not self._plain:
            exact = self._run(self._plain, flat)
            for i, (a, b) in enumerate(zip(values, exact, strict=True)):
                off = np.abs(a.astype(np.float64) - b).max(initial=0.0)
                most = _MOST_ROUNDING * np.abs(a.astype(np.float64)).max(initial=0.0)
                steps[i] = max(steps[i], float(min(off, most)))
        extra = {f"step_{i}": np.float64(s) for i, s in enumerate(steps)}
        np.savez(answers, *values, **(extra if self.approximate else {}))  # type: ignore[arg-type]

    def _run(self, content: bytes, flat: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
        try:
            if content not in self._interpreters:
                self._interpreters[content] = Interpreter(content)
            return self._interpreters[content].run(flat)
        except (RuntimeError, ValueError) as error:
            shapes = ", ".join(
                f"{s.name} {list(x.shape)}" for s, x in zip(self.inputs, flat, strict=True)
            )
            raise ModelError(
                f"TFLite fails on {self._path.name} for the inputs {shapes}: {error}",
                "give sizes it accepts with --shape and --batch; an operator that is not built in: end the model before it (--outputs)",
            ) from error


def _output_steps(graph: Graph) -> list[float]:
    """For each output: 1 if it is a quantized integer, its scale if it is the float of one, else 0."""
    steps = []
    for index in ints(graph.subgraph.outputs):
        maker = graph.producer(index)
        if maker is not None and graph.name(maker) == "DEQUANTIZE":
            index, unit = ints(maker.inputs)[0], 0.0
        else:
            unit = 1.0
        quantization = graph.tensors[index].quantization
        scaled = quantization is not None and quantization.scale is not None
        if scaled and len(quantization.scale) == 1 and graph.constant(index) is None:
            steps.append(unit or float(quantization.scale[0]))
        else:
            steps.append(0.0)
    return steps
