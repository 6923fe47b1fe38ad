"""Seeded networks with names that can be changed, layers that can be broken, and what the steps make of them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgepack.artifact import ModelFile
from edgepack.divergence.graph import read_graph
from edgepack.divergence.measure import Side
from edgepack.divergence.probe import Probe
from edgepack.prove.golden import golden_feeds
from tests.models import FLOAT, model, tensors, value, wrap

SIZE = 16


def residual_net(*, blocks: int = 3, width: int = 8, seed: int = 0) -> onnx.ModelProto:
    """float32 `image` [1, 3, 16, 16] to float32 `probabilities` [1, 10]: blocks of expand, depthwise, project and add, alike in every shape."""
    rng = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}

    def conv(x: str, name: str, wide: int, out: int, size: int, group: int = 1) -> str:
        fan = wide // group * size * size
        kernel = rng.normal(size=(out, wide // group, size, size)) * np.sqrt(2 / fan)
        weights[f"{name}.w"] = kernel.astype(np.float32)
        weights[f"{name}.b"] = (rng.normal(size=out) * 0.05).astype(np.float32)
        given, pads = [x, f"{name}.w", f"{name}.b"], [size // 2] * 4
        nodes.append(helper.make_node("Conv", given, [name], name, pads=pads, group=group))
        return name

    def op(kind: str, given: Sequence[str], name: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, list(given), [name], name, **attributes))
        return name

    x = op("Relu", [conv("image", "net/stem/conv", 3, width, 3)], "net/stem/relu")
    for i in range(blocks):
        p = f"net/block_{i}"
        y = op("Relu", [conv(x, f"{p}/expand", width, 2 * width, 1)], f"{p}/expand_relu")
        y = conv(y, f"{p}/depthwise", 2 * width, 2 * width, 3, 2 * width)
        y = op("Relu", [y], f"{p}/depthwise_relu")
        x = op("Add", [x, conv(y, f"{p}/project", 2 * width, width, 1)], f"{p}/add")
    x = op("Flatten", [op("GlobalAveragePool", [x], "net/pool")], "net/flat")
    weights["head.w"] = (rng.normal(size=(width, 10)) * 0.5).astype(np.float32)
    nodes.append(helper.make_node("Gemm", [x, "head.w"], ["net/logits"], "net/head"))
    op("Softmax", ["net/logits"], "probabilities")
    edges = [value("image", FLOAT, [1, 3, SIZE, SIZE])], [value("probabilities", FLOAT, [1, 10])]
    return model(nodes, *edges, tensors(weights))


def samples(count: int = 8) -> np.ndarray:
    """float32 [count, 3, 16, 16], uniform in 0–1."""
    return np.random.default_rng(3).random((count, 3, SIZE, SIZE)).astype(np.float32)


def broken(proto: onnx.ModelProto, weight: str, factor: float = 1.05) -> onnx.ModelProto:
    """The model with one weight scaled."""
    return rewritten(proto, weight, lambda x: x * np.float32(factor))


def rewritten(
    proto: onnx.ModelProto, weight: str, change: Callable[[np.ndarray], np.ndarray]
) -> onnx.ModelProto:
    """The model with one weight changed."""
    result = copy.deepcopy(proto)
    (tensor,) = [t for t in result.graph.initializer if t.name == weight]
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), weight))
    return result


def renamed(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """The model with every name within changed to a number, and the new name of each tensor."""
    result = copy.deepcopy(proto)
    edges = {v.name for v in (*result.graph.input, *result.graph.output)}
    names = {n: n for n in edges} | {"": ""}
    for tensor in result.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"{len(names) * 7 % 10007}")
    for i, node in enumerate(result.graph.node):
        node.name = f"n{i}"
        for names_of in (node.input, node.output):
            for k, name in enumerate(names_of):
                names_of[k] = names.setdefault(name, f"{len(names) * 7 % 10007}")
    assert len(set(names.values())) == len(names)
    return result, names


def side(proto: onnx.ModelProto | ModelFile, folder: Path, name: str) -> Side:
    """A model as `compare` and `match` take it, with seeded noise to run on."""
    folder = folder / name
    folder.mkdir()
    made = proto if isinstance(proto, ModelFile) else wrap(proto, folder)
    feeds = golden_feeds(made.inputs, None)
    probe = Probe(made, folder / "run")
    return Side(probe, read_graph(probe, feeds[0]), feeds)
