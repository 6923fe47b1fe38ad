"""Hand-made bundles for loader tests: written without edgepack, so that a loader is held to the contract and not to our own writer.

`write_samples(folder)` writes four bundles: `conv-onnx`, `conv-ort` (one float input, one output) and `multi-onnx`, `multi-ort`
(seven dtypes, a scalar with an odd name, a free `batch`).
"""

from __future__ import annotations

import gc
import hashlib
import json
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.tools.convert_onnx_models_to_ort import (
    OptimizationStyle,
    convert_onnx_models_to_ort,
)

DTYPES = {
    "f16": TensorProto.FLOAT16,
    "f32": TensorProto.FLOAT,
    "i8": TensorProto.INT8,
    "u8": TensorProto.UINT8,
    "i32": TensorProto.INT32,
    "i64": TensorProto.INT64,
    "b": TensorProto.BOOL,
}


def conv_model() -> onnx.ModelProto:
    """A convolution, ReLU, a matrix product and softmax: float32 [1, 8, 8, 1] to float32 [1, 10]."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 1, 3, 3)).astype(np.float32)
    weight = (rng.normal(size=(512, 10)) * 0.05).astype(np.float32)
    nodes = [
        helper.make_node("Transpose", ["image"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["conv"], pads=[1] * 4),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    return make_model(
        nodes,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 8, 8, 1])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [1, 10])],
        [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(weight, "weight")],
    )


def multi_model() -> onnx.ModelProto:
    """Identity over seven dtypes with a free `batch`, and one scalar input named `scalar/odd name:0`."""
    odd = "scalar/odd name:0"
    inputs = [helper.make_tensor_value_info(n, t, ["batch", 3]) for n, t in DTYPES.items()]
    inputs.append(helper.make_tensor_value_info(odd, TensorProto.FLOAT, []))
    outputs = [
        helper.make_tensor_value_info(f"out_{n}", t, ["batch", 3]) for n, t in DTYPES.items()
    ]
    outputs.append(helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["batch", 3]))
    nodes = [helper.make_node("Identity", [n], [f"out_{n}"]) for n in DTYPES]
    nodes.append(helper.make_node("Add", ["f32", odd], ["sum"]))
    return make_model(nodes, inputs, outputs, [])


def write_samples(folder: Path) -> None:
    """Write the four bundles below `folder`."""
    for name, model in (("conv", conv_model()), ("multi", multi_model())):
        write_bundle(folder / f"{name}-onnx", model, model.SerializeToString(), "onnx")
        write_bundle(folder / f"{name}-ort", model, to_ort(model), "ort")


def seal(bundle: Path, manifest: dict[str, object]) -> None:
    """Write `manifest` into `bundle` as canonical JSON (its floats are plain decimals)."""
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    (bundle / "manifest.json").write_text(text, encoding="utf-8")


def make_model(nodes, inputs, outputs, initializers) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    """A model of operator set 17, which every runtime here takes."""
    graph = helper.make_graph(nodes, "sample", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def to_ort(model: onnx.ModelProto) -> bytes:
    """`model` in ORT format, optimized as for an ARM CPU."""
    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "m.onnx", Path(scratch) / "ort"
        onnx.save(model, source)
        with warnings.catch_warnings():
            # onnxruntime's converter leaves the files it read open.
            warnings.simplefilter("ignore", ResourceWarning)
            convert_onnx_models_to_ort(
                source.parent,
                output_dir=target,
                optimization_styles=[OptimizationStyle.Fixed],
                target_platform="arm",
            )
            gc.collect()
        return next(target.glob("*.ort")).read_bytes()


def random_feeds(model: onnx.ModelProto, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random inputs; a free dimension is 2."""
    feeds: dict[str, np.ndarray] = {}
    for value in model.graph.input:
        tensor = value.type.tensor_type
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        x = rng.random([2 if d.dim_param else d.dim_value for d in tensor.shape.dim])
        if dtype == np.bool_:
            x = np.asarray(x) > 0.5
        elif dtype.kind != "f":
            x = np.asarray(x) * 100
        feeds[value.name] = np.asarray(x).astype(dtype)
    return feeds


def _spec(value: onnx.ValueInfoProto) -> dict[str, object]:
    tensor = value.type.tensor_type
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).name
    shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    return {"name": value.name, "dtype": dtype, "shape": shape}


def write_bundle(
    root: Path,
    model: onnx.ModelProto,
    data: bytes,
    suffix: str,
    *,
    name: str | None = None,
    cases: int = 3,
) -> None:
    """Write the bundle `root` of `data`, which is `model` as it is or in ORT format, with random golden cases.

    `name`: of the model's file; None: that of the folder.
    """
    files: list[dict[str, object]] = []

    def put(path: str, raw: bytes, role: str) -> str:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(raw)
        digest = hashlib.sha256(raw).hexdigest()
        files.append({"path": path, "size": len(raw), "sha256": digest, "role": role})
        return path

    model_path = put(f"model/{name or root.name}.{suffix}", data, "model")
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(1)
    golden = []
    for case in range(cases):
        feeds = random_feeds(model, rng)
        inputs = [
            {
                "name": name,
                "dtype": x.dtype.name,
                "shape": list(x.shape),
                "path": put(f"golden/{case}/input-{k}.bin", x.tobytes(), "golden"),
            }
            for k, (name, x) in enumerate(feeds.items())
        ]
        answers = zip(session.get_outputs(), session.run(None, feeds), strict=True)
        expect = [
            {
                "name": output.name,
                "from": source,
                "dtype": y.dtype.name,
                "shape": list(y.shape),
                "path": put(f"golden/{case}/{source}-{k}.bin", y.tobytes(), "golden"),
                "atol": atol,
                "rtol": atol * 10,
            }
            for k, (output, y) in enumerate(answers)
            for source, atol in (("shipped", 0.0001), ("source", 0.001))
        ]
        golden.append({"name": str(case), "inputs": inputs, "expect": expect})
    seal(
        root,
        {
            "schema": 1,
            "critical": [],
            "release": {"app": root.name, "version": "0.0.0", "seq": 0},
            "target": {"name": "sample", "requires": {}},
            "model": {"path": model_path, "format": suffix, "precision": "fp32", "opset": 17},
            "inputs": [_spec(v) for v in model.graph.input],
            "outputs": [_spec(v) for v in model.graph.output],
            "runtime": {
                "language": "python",
                "package": "onnxruntime",
                "version": "1.29.0",
                "min_version": "1.20.0",
                "providers": [{"name": "CPUExecutionProvider", "options": {}}],
                "session": {
                    "graph_optimization_level": "all",
                    "intra_op_num_threads": 0,
                    "config": {},
                },
            },
            "golden": golden,
            "files": sorted(files, key=lambda f: str(f["path"])),
            "build": {},
        },
    )
