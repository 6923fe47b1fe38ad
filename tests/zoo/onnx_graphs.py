"""ONNX files that are legal and awkward: external data, old opsets, custom names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def external_data(path: Path) -> None:
    """An MLP whose weights lie in a file beside it."""
    onnx.save(
        _mlp(opset=17, width=256),
        path,
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=1024,
    )


def opset(path: Path, version: int) -> None:
    """The same MLP as an exporter of that opset wrote it: attributes where later opsets have inputs."""
    onnx.save(_mlp(opset=version, width=32), path)


def _mlp(*, opset: int, width: int) -> onnx.ModelProto:
    rng = np.random.default_rng(opset)
    weights = {
        "first": rng.normal(size=(16, width)) / 4,
        "second": rng.normal(size=(width, 5)) / np.sqrt(width),
        "bias": rng.normal(size=5),
    }
    initializers = [numpy_helper.from_array(x.astype(np.float32), n) for n, x in weights.items()]
    axes = {"axes": [2]} if opset < 13 else {}
    node = helper.make_node
    nodes = [
        node("MatMul", ["table", "first"], ["hidden"]),
        node("Relu", ["hidden"], ["active"]),
        node("MatMul", ["active", "second"], ["sum"]),
        node("Add", ["sum", "bias"], ["shifted"]),
        node("Unsqueeze", ["shifted"] if axes else ["shifted", "two"], ["tall"], **axes),
        node("Squeeze", ["tall"] if axes else ["tall", "two"], ["flat"], **axes),
        node("Softmax", ["flat"], ["classes"], axis=1),
    ]
    if not axes:
        initializers.append(numpy_helper.from_array(np.array([2], np.int64), "two"))
    edge = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "mlp",
        [edge("table", TensorProto.FLOAT, ["rows", 16])],
        [edge("classes", TensorProto.FLOAT, ["rows", 5])],
        initializers,
    )
    ir = {7: 3, 8: 3, 9: 4, 10: 5, 11: 6, 12: 7}.get(opset, 8)
    if ir < 4:
        # Before IR 4 an initializer had to be an input too.
        for tensor in initializers:
            graph.input.append(edge(tensor.name, tensor.data_type, list(tensor.dims)))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)
