from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack.prove.engine import answers
from edgepack.prove.sensitivity import sensitivity


def model(
    path: Path, factor: float, dtype: int = TensorProto.FLOAT, shape: tuple[int, ...] = (2,)
) -> Path:
    """y = factor · (x − 1): what x loses by rounding near 1, times the factor."""
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    nodes = [
        helper.make_node("Sub", ["x", "one"], ["d"]),
        helper.make_node("Mul", ["d", "f"], ["y"]),
    ]
    constants = {"one": np.array(1, kind), "f": np.array(factor, kind)}
    edges = [[helper.make_tensor_value_info(n, dtype, shape)] for n in ("x", "y")]
    tensors = [numpy_helper.from_array(v, n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "near-one", *edges, tensors)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.mark.parametrize("factor", [1.0, 1e6])
def test_it_is_what_one_unit_in_the_last_place_of_the_inputs_does(tmp_path, factor):
    path = model(tmp_path / "m.onnx", factor)
    feeds = [{"x": np.array([1, 1], np.float32)}, {"x": np.array([1, 0.5], np.float32)}]
    moved = sensitivity(path, feeds, answers(path, feeds))
    assert moved == {"y": pytest.approx(2 * factor * 2.0**-23)}


def test_integers_do_not_move(tmp_path):
    path = model(tmp_path / "m.onnx", 3, TensorProto.INT64)
    feeds = [{"x": np.array([1, 5], np.int64)}]
    assert sensitivity(path, feeds, answers(path, feeds)) == {"y": 0.0}


def test_infinite_answers_do_not_spoil_it(tmp_path):
    path = model(tmp_path / "m.onnx", 1.0)
    feeds = [{"x": np.array([np.inf, 1], np.float32)}]
    assert sensitivity(path, feeds, answers(path, feeds)) == {"y": pytest.approx(2 * 2.0**-23)}


def test_a_scalar_moves_too(tmp_path):
    path = model(tmp_path / "m.onnx", 1.0, shape=())
    feeds = [{"x": np.array(1, np.float32)}]
    assert sensitivity(path, feeds, answers(path, feeds)) == {"y": pytest.approx(2 * 2.0**-23)}
