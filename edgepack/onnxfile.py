"""ONNX models on disk: read, write, and what stands at their edges."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from onnx import helper

from edgepack import skeleton, weights
from edgepack.artifact import DTYPES, Dim, Format, ModelFile, TensorSpec
from edgepack.errors import ModelError

#: The operator sets a device's onnxruntime knows without a custom library.
ONNX_DOMAINS = ("", "ai.onnx")
KNOWN_DOMAINS = (*ONNX_DOMAINS, "ai.onnx.ml", "com.microsoft")


def load(model: ModelFile) -> onnx.ModelProto:
    """The model without its weights: large initializers are references, see `weights.array` and `save`."""
    return skeleton.read(model.path)


def save(
    model: onnx.ModelProto,
    path: Path,
    *,
    folder: Path | None = None,
    arrays: Iterable[tuple[str, NDArray[Any]]] = (),
) -> ModelFile:
    """Write `model` and wrap it: one file, or, beyond `weights.INLINE_LIMIT_BYTES`, two, the second `<path>.data`.

    Bytes depend on the model and on the names of the two files alone. Weights go from file to file in blocks.

    Args:
        model: its references may change: use it no more.
        folder: where the files lie that `model` refers to: that of the file it was loaded from. None: it refers to none.
        arrays: (initializer's name, values), in an order that is the same in every run, for models too large to hold twice: each
            is written as it comes, then let go. An initializer of that name in `model` is given the values, whatever it held;
            without one, it is added.
    """
    folder = folder or path.parent
    part = path.with_name(f"{path.name}.part")
    with weights.DataFile(path) as data:
        if data.take_all(model, folder, arrays):
            data.keep(model)
            part.write_bytes(model.SerializeToString(deterministic=True))
        else:
            skeleton.write(model, part, lambda t: data.region(t, folder))
    os.replace(part, path)
    return wrap_file(path)


def wrap_file(path: Path) -> ModelFile:
    """A ModelFile for the .onnx file at `path` and what lies beside it; its weights are not read."""
    return wrap(skeleton.read(path), path)


def wrap(model: onnx.ModelProto, path: Path) -> ModelFile:
    """A ModelFile for a model that already lies at `path`."""
    initializers = {i.name for i in model.graph.initializer}
    return ModelFile(
        path=path,
        format=Format.ONNX,
        inputs=tuple(spec(v) for v in model.graph.input if v.name not in initializers),
        outputs=tuple(spec(v) for v in model.graph.output),
        opset=opset(model),
        beside=external_files(model, path),
    )


def opset(model: onnx.ModelProto) -> int:
    """The version of the default operator set; 0 if it is not imported."""
    return max((o.version for o in model.opset_import if o.domain in ONNX_DOMAINS), default=0)


def spec(value: onnx.ValueInfoProto) -> TensorSpec:
    """Name, dtype and shape of a graph input or output.

    Raises:
        ModelError: it is not a tensor, or of a dtype that no bundle can carry.
    """
    if not value.type.HasField("tensor_type"):
        kind = value.type.WhichOneof("value") or "nothing"
        raise ModelError(
            f"{value.name} is a {kind}, not a tensor", "end the model before it (wrap or cut it)"
        )
    tensor = value.type.tensor_type
    try:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type).name)
    except KeyError:
        dtype = str(tensor.elem_type)
    if dtype not in DTYPES:
        name = onnx.TensorProto.DataType.Name(tensor.elem_type)
        raise ModelError(
            f"{value.name} is of type {name}, which edge runtimes take no raw tensors of",
            f"move this part out of the model; dtypes that work: {', '.join(DTYPES)}",
        )
    shape: list[Dim] = []
    for axis, dim in enumerate(tensor.shape.dim):
        if dim.HasField("dim_value"):
            shape.append(dim.dim_value)
        else:
            shape.append(dim.dim_param or f"{value.name}_dim{axis}")
    return TensorSpec(name=value.name, dtype=dtype, shape=tuple(shape))


def is_half(model: onnx.ModelProto) -> bool:
    """Whether the model computes in float16 already: weights or edges are of that type, and no weight is float32."""
    types = {t.data_type for t in model.graph.initializer if math.prod(t.dims) > 1}
    edges = {v.type.tensor_type.elem_type for v in (*model.graph.input, *model.graph.output)}
    half = onnx.TensorProto.FLOAT16
    return half in types | edges and onnx.TensorProto.FLOAT not in types


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether integers with scales stand in the model already."""
    return any(node.op_type == "DequantizeLinear" for node in model.graph.node)


def constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor in a Constant node; None for other nodes, and for forms that hold none (sparse, texts)."""
    held = node.attribute if node.op_type == "Constant" and node.domain in ONNX_DOMAINS else ()
    for attribute in held:
        if attribute.name == "value":
            tensor: onnx.TensorProto = attribute.t
            return tensor
        if attribute.name in ("value_float", "value_floats", "value_int", "value_ints"):
            value = helper.get_attribute_value(attribute)
            kind = onnx.TensorProto.FLOAT if "float" in attribute.name else onnx.TensorProto.INT64
            plural = attribute.name.endswith("s")
            return helper.make_tensor(
                node.output[0], kind, [len(value)] if plural else [], value if plural else [value]
            )
    return None


def trim(model: onnx.ModelProto) -> None:
    """Drop operator sets no node uses, and texts that say who made the file."""
    used = {"" if d == "ai.onnx" else d for d in node_domains(model)} | {""}
    kept = [o for o in model.opset_import if ("" if o.domain == "ai.onnx" else o.domain) in used]
    del model.opset_import[:]
    model.opset_import.extend(sorted(kept, key=lambda o: o.domain))
    model.producer_name, model.producer_version, model.doc_string = "edgepack", "", ""
    model.graph.doc_string = ""


def external_files(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    """The files beside the one at `path` in which tensors of `model` lie."""
    entries = (
        e for t in weights.tensors(model) if weights.is_reference(t) for e in t.external_data
    )
    places = {path.parent / e.value for e in entries if e.key == "location"}
    return tuple(sorted(places - {path}))


def node_domains(model: onnx.ModelProto) -> set[str]:
    """Domains of all nodes, those in subgraphs and functions too."""
    return {node.domain for graph in weights.graphs(model) for node in graph.node}
