"""One rewrite tried on one small graph: what it did, and whether the answers stayed."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from edgepack.passes.tune.step import Tune
from edgepack.prove.engine import answers
from tests.models import FLOAT, Shape, model, run_step, tensors, value, wrap

#: Of answers of magnitude 1: a few roundings in float32.
CLOSE = 2e-5


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What came of it.

    Attributes:
        count: how often the rewrite says it changed something.
        operators: those of the graph afterwards.
        gap: the largest distance between answers before and after, as a share of the largest answer.
    """

    count: int
    operators: Counter[str]
    gap: float
    proto: onnx.ModelProto


def node(kind: str, inputs: str, output: str, **attributes: object) -> onnx.NodeProto:
    """A node; its inputs separated by blanks."""
    return helper.make_node(kind, inputs.split(), [output], **attributes)


def graph(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, np.ndarray],
    *,
    x: Shape = (1, 4, 6, 6),
    outputs: Sequence[str] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of float32 `x`, of shape `x`; its outputs have the shapes that follow."""
    proto = model(
        nodes,
        [value("x", FLOAT, x)],
        [value(name, FLOAT, None) for name in outputs],
        tensors(dict(constants)),
        opset=opset,
    )
    return onnx.shape_inference.infer_shapes(proto)


def tried(rewrite: str, proto: onnx.ModelProto) -> Trial:
    """The rewrite done on a model, both run without onnxruntime's own optimizations on random inputs."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        start = wrap(proto, folder)
        result = run_step(Tune(rewrites=(rewrite,)), start, folder)
        assert (result.model.inputs, result.model.outputs) == (start.inputs, start.outputs)
        assert result.changed == (result.facts[rewrite] > 0)
        sizes = [d if isinstance(d, int) else 2 for d in start.inputs[0].shape]
        feeds = [{"x": random(*sizes, seed=seed)} for seed in (0, 1)]
        before, after = (
            answers(made.path, feeds, optimize=False) for made in (start, result.model)
        )
        changed = onnx.load(result.model.path)
        onnx.checker.check_model(changed, full_check=True)
    gaps = [
        0.0
        if np.array_equal(a[name], b[name])
        else np.abs(a[name] - b[name]).max() / max(np.abs(a[name]).max(), 1e-6)
        for a, b in zip(before, after, strict=True)
        for name in a
    ]
    return Trial(
        count=result.facts[rewrite],
        operators=Counter(n.op_type for n in changed.graph.node),
        gap=float(max(gaps)),
        proto=changed,
    )


def random(*shape: int, seed: int = 7) -> np.ndarray:
    """float32, normal about 0."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
