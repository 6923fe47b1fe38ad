"""ONNX models on disk: read, write, and what stands at their edges."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import helper

from edgepack.artifact import DTYPES, Dim, Format, ModelFile, TensorSpec
from edgepack.errors import ModelError

#: The operator sets a device's onnxruntime knows without a custom library.
ONNX_DOMAINS = ("", "ai.onnx")
KNOWN_DOMAINS = (*ONNX_DOMAINS, "ai.onnx.ml", "com.microsoft")


def load(model: ModelFile) -> onnx.ModelProto:
    """The whole model in memory."""
    return onnx.load(model.path)


def save(model: onnx.ModelProto, path: Path) -> ModelFile:
    """Write `model` and wrap it. Bytes depend on the model alone."""
    path.write_bytes(model.SerializeToString(deterministic=True))
    return wrap(model, path)


def wrap(model: onnx.ModelProto, path: Path) -> ModelFile:
    """A ModelFile for a model that already lies at `path`."""
    initializers = {i.name for i in model.graph.initializer}
    return ModelFile(
        path=path,
        format=Format.ONNX,
        inputs=tuple(spec(v) for v in model.graph.input if v.name not in initializers),
        outputs=tuple(spec(v) for v in model.graph.output),
        opset=opset(model),
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


def trim(model: onnx.ModelProto) -> None:
    """Drop operator sets no node uses, and texts that say who made the file."""
    used = {"" if d == "ai.onnx" else d for d in node_domains(model)} | {""}
    kept = [o for o in model.opset_import if ("" if o.domain == "ai.onnx" else o.domain) in used]
    del model.opset_import[:]
    model.opset_import.extend(sorted(kept, key=lambda o: o.domain))
    model.producer_name, model.producer_version, model.doc_string = "edgepack", "", ""
    model.graph.doc_string = ""


def external_files(model: onnx.ModelProto, folder: Path) -> tuple[Path, ...]:
    """The files below `folder` in which initializers lie, as long as they have not been loaded."""
    entries = (e for i in model.graph.initializer for e in i.external_data)
    return tuple(sorted({folder / e.value for e in entries if e.key == "location"}))


def node_domains(model: onnx.ModelProto) -> set[str]:
    """Domains of all nodes, those in subgraphs too."""
    domains: set[str] = set()
    graphs = [model.graph]
    while graphs:
        for node in graphs.pop().node:
            domains.add(node.domain)
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    graphs.append(attribute.g)
                graphs.extend(attribute.graphs)
    return domains
