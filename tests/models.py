"""Small ONNX models, built in code, that many tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgepack import onnxfile
from edgepack.artifact import ModelFile
from edgepack.cache import Cache
from edgepack.calibrate.calibrator import Calibrator
from edgepack.passes.int8 import Int8
from edgepack.passes.registry import make_step
from edgepack.passes.step import Step, StepContext, StepResult
from edgepack.prove.engine import answers
from edgepack.samples.opening import open_samples
from edgepack.targets import load_target

#: A dimension in these models: a size, or the name of a free one.
Shape = Sequence[int | str]

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def conv_model(*, batch: int | str = "batch", features: int = 8) -> onnx.ModelProto:
    """float32 `image` [batch, 8, 8, 1] to float32 `probabilities` [batch, 10].

    It has what the steps work on: a transpose, a Conv with bias and BatchNormalization, a Gemm with bias, and constants to
    fold.
    """
    rng = np.random.default_rng(0)
    weights = {
        "kernel": rng.normal(size=(features, 1, 3, 3)) * 0.5,
        "kernel_bias": rng.normal(size=features) * 0.1,
        "scale": rng.uniform(0.5, 1.5, features),
        "shift": rng.normal(size=features) * 0.1,
        "mean": rng.normal(size=features) * 0.1,
        "variance": rng.uniform(0.5, 1.5, features),
        "half_weight": rng.normal(size=(features * 4, 10)) * 0.2,
        "two": np.array(2.0),
        "bias": rng.normal(size=10) * 0.1,
    }
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel", "kernel_bias"], ["conv"], "conv", pads=[1] * 4),
        helper.make_node(
            "BatchNormalization", ["conv", "scale", "shift", "mean", "variance"], ["norm"], "norm"
        ),
        helper.make_node("Relu", ["norm"], ["relu"], "relu"),
        helper.make_node(
            "MaxPool", ["relu"], ["small"], "pool", kernel_shape=[4, 4], strides=[4, 4]
        ),
        helper.make_node("Flatten", ["small"], ["flat"], "flatten"),
        helper.make_node("Mul", ["half_weight", "two"], ["weight"], "double"),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], "gemm"),
        helper.make_node("Softmax", ["logits"], ["probabilities"], "softmax"),
    ]
    initializers = tensors({k: v.astype(np.float32) for k, v in weights.items()})
    return model(
        nodes,
        [value("image", FLOAT, [batch, 8, 8, 1])],
        [value("probabilities", FLOAT, [batch, 10])],
        initializers,
    )


def free_size_model() -> onnx.ModelProto:
    """float32 `image` [batch, height, width, 3] to float32 `mean` [batch, 3]."""
    nodes = [
        helper.make_node("Relu", ["image"], ["relu"]),
        helper.make_node("ReduceMean", ["relu"], ["mean"], axes=[1, 2], keepdims=0),
    ]
    return model(
        nodes,
        [value("image", FLOAT, ["batch", "height", "width", 3])],
        [value("mean", FLOAT, ["batch", 3])],
    )


def two_input_model() -> onnx.ModelProto:
    """float32 `left` [batch, length] and int64 `right` [batch, length] to float32 `total` [batch, length] and `count` []."""
    nodes = [
        helper.make_node("Cast", ["right"], ["float_right"], to=FLOAT),
        helper.make_node("Add", ["left", "float_right"], ["total"]),
        helper.make_node("ReduceSum", ["float_right"], ["count"], keepdims=0),
    ]
    return model(
        nodes,
        [value("left", FLOAT, ["batch", "length"]), value("right", INT64, ["batch", "length"])],
        [value("total", FLOAT, ["batch", "length"]), value("count", FLOAT, [])],
    )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
    *,
    opset: int = 17,
    domains: Sequence[str] = (),
) -> onnx.ModelProto:
    """A model of `nodes`; `domains` are imported in version 1 besides ONNX's own."""
    graph = helper.make_graph(list(nodes), "graph", list(inputs), list(outputs), list(initializers))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def value(name: str, dtype: int, shape: Shape | None) -> onnx.ValueInfoProto:
    """An input or output; `None` in place of a shape: of unknown rank."""
    return helper.make_tensor_value_info(name, dtype, shape)


def tensors(arrays: dict[str, np.ndarray]) -> list[onnx.TensorProto]:
    """Initializers by name."""
    return [numpy_helper.from_array(np.asarray(x), name) for name, x in arrays.items()]


def images(count: int, *, seed: int = 1) -> np.ndarray:
    """float32 [count, 8, 8, 1], uniform in 0–1: what `conv_model` takes."""
    return np.random.default_rng(seed).random((count, 8, 8, 1)).astype(np.float32)


def write(proto: onnx.ModelProto, path: Path) -> Path:
    """The path, with the model there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return path


def wrap(proto: onnx.ModelProto, folder: Path, name: str = "start") -> ModelFile:
    """The model as it travels between steps."""
    return onnxfile.save(proto, folder / f"{name}.onnx")


def int8_recipe(target: str) -> Int8:
    """The INT8 step as a target's profile has it."""
    (spec,) = (s for s in load_target(target).precisions["int8"].steps if s.name == Int8.name)
    step = make_step(spec.name, spec.options)
    assert isinstance(step, Int8)
    return step


def run_step(step: Step, start: ModelFile, folder: Path, calibration: object = None) -> StepResult:
    """What a step makes of `start`, in an empty folder below `folder`."""
    place = folder / f"{step.name}-{len(list(folder.iterdir()))}"
    place.mkdir()
    calibrator = None
    if calibration is not None:
        scratch = place.with_name(f"{place.name}-calibration")
        samples = open_samples(calibration, specs=start.inputs, folder=scratch)
        calibrator = Calibrator(samples, scratch / "prepared", Cache(folder=None))
    return step.run(start, StepContext(folder=place, name="model", calibrator=calibrator))


def answers_of(made: ModelFile, **feeds: np.ndarray) -> dict[str, np.ndarray]:
    """A model's outputs by name."""
    return answers(made.path, [feeds])[0]
