"""What the rewrites of the flatbuffer compute, against formulas of their own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import Graph
from edgepack.intake.tflite.rewrites.densify import densify
from tests.intake.tflite.build import both, custom, empty, save, weights


def level(size: int | None, segments: Any = (), indices: Any = ()) -> Any:
    if size is not None:
        return schema.DimensionMetadataT(format=schema.DimensionType.DENSE, denseSize=size)
    return schema.DimensionMetadataT(
        format=schema.DimensionType.SPARSE_CSR,
        arraySegmentsType=3,
        arraySegments=schema.Uint8VectorT(values=np.array(segments, np.uint8)),
        arrayIndicesType=3,
        arrayIndices=schema.Uint8VectorT(values=np.array(indices, np.uint8)),
    )


def sparse(shape: Any, order: Any, blocks: Any, levels: Any, values: Any) -> tuple[Graph, int]:
    graph = empty()
    index = graph.add_constant("w", np.array(values, np.float32))
    tensor = graph.tensors[index]
    tensor.shape = np.array(shape, np.int32)
    tensor.sparsity = schema.SparsityParametersT(
        traversalOrder=np.array(order, np.int32),
        blockMap=np.array(blocks, np.int32),
        dimMetadata=levels,
    )
    return graph, index


def test_rows_in_csr_form_unfold() -> None:
    levels = [level(3), level(None, [0, 2, 2, 3], [0, 3, 1])]
    graph, index = sparse((3, 4), (0, 1), (), levels, [1, 2, 3])
    densify(graph)
    want = [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0]]
    np.testing.assert_array_equal(graph.constant(index), want)


def test_columns_first_unfold_transposed() -> None:
    levels = [level(4), level(None, [0, 1, 2, 2, 3], [0, 2, 0])]
    graph, index = sparse((3, 4), (1, 0), (), levels, [1, 3, 2])
    densify(graph)
    want = [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 0, 0]]
    np.testing.assert_array_equal(graph.constant(index), want)


def test_blocks_unfold_at_their_places() -> None:
    levels = [level(2), level(None, [0, 1, 2], [1, 0]), level(2), level(2)]
    graph, index = sparse((4, 4), (0, 1, 2, 3), (0, 1), levels, range(1, 9))
    densify(graph)
    want = [[0, 0, 1, 2], [0, 0, 3, 4], [5, 6, 0, 0], [7, 8, 0, 0]]
    np.testing.assert_array_equal(graph.constant(index), want)


@pytest.mark.parametrize(
    "levels",
    [
        [level(3), level(None, [0, 2, 2, 3], [0, 4, 1])],
        [level(3), level(None, [0, 2, 2, 9], [0, 3, 1])],
        [level(3), level(None, [0, 2, 1, 3], [0, 3, 1])],
        [level(255), level(None, [0, 2, 2, 3], [0, 3, 1])],
        [level(3), level(4)],
    ],
)
def test_sparsity_that_contradicts_its_weight_is_refused(levels: Any) -> None:
    graph, _ = sparse((3, 4), (0, 1), (), levels, [1, 2, 3])
    with pytest.raises(ModelError, match="'w' does not hold together"):
        densify(graph)


# MediaPipe's operators: each against its formula in numpy


@pytest.mark.parametrize(("height", "padding"), [(4, 1), (5, 1), (5, 2)])
def test_transpose_conv_with_bias(height: int, padding: int, tmp_path: Path) -> None:
    graph, size, stride = empty(), 3, 2
    kernel, bias, x = weights(2, size, size, 4), weights(2), weights(1, height, 4, 4)
    cut = [max(0, size - (n - 1) % stride - 1) if padding == 1 else 0 for n in (height, 4)]
    shape = [stride * (n - 1) + size - c for n, c in zip((height, 4), cut, strict=True)]
    whole = np.zeros((height * 2 + 1, 9, 2), np.float32)
    for i in range(height):
        for j in range(4):
            part = np.einsum("c,oyxc->yxo", x[0, i, j], kernel)
            whole[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += part
    top, left = cut[0] // 2, cut[1] // 2
    want = whole[top : top + shape[0], left : left + shape[1]] + bias
    data, made = graph.add_tensor("x", x.shape), graph.add_tensor("y", (1, *shape, 2))
    inputs = [data, graph.add_constant("k", kernel), graph.add_constant("b", bias)]
    custom(graph, "Convolution2DTransposeBias", inputs, [made], struct.pack("<iii", padding, 2, 2))
    model, answers, got = both(save(graph, [data], [made], tmp_path / "m.tflite"), [x])
    np.testing.assert_allclose(got[0][0], want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(answers[0], got[0], rtol=1e-4, atol=1e-5)
    assert "Convolution2DTransposeBias as built-in operators" in model.framework


@pytest.mark.parametrize("dimensions", [2, 3])
def test_transform_landmarks(dimensions: int, tmp_path: Path) -> None:
    graph, points, matrix = empty(), weights(1, 5, dimensions), weights(1, 4, 4)
    want = points.copy()
    want[0, :, :2] = points[0, :, :2] @ matrix[0, :2, :2].T + matrix[0, :2, 3]
    a, b = graph.add_tensor("points", points.shape), graph.add_tensor("matrix", matrix.shape)
    made = graph.add_tensor("y", points.shape)
    custom(graph, "TransformLandmarks", [a, b], [made], None)
    _, _, got = both(save(graph, [a, b], [made], tmp_path / "m.tflite"), [points, matrix])
    np.testing.assert_allclose(got[0], want, rtol=1e-5, atol=1e-6)


def box_matrix(points: Any, o: dict[str, Any]) -> Any:
    """Landmarks2TransformMatrix as its kernel has it: with the angle and a product of five matrices."""
    apart = points[o["right_rotation_idx"]] - points[o["left_rotation_idx"]]
    r = o["target_rotation_radians"] - np.arctan2(apart[1], apart[0])
    turn = np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    turned = points[o["subset_idxs"], :2] @ turn.T
    low, high = turned.min(0), turned.max(0)
    made = np.eye(4)
    made[:2, 3] = np.linalg.inv(turn) @ ((low + high) / 2)
    back, scale, shift = np.eye(4), np.eye(4), np.eye(4)
    back[:2, :2] = np.linalg.inv(turn)
    sizes = np.array([o["output_width"], o["output_height"]])
    scale[[0, 1], [0, 1]] = (high - low) * [o["scale_x"], o["scale_y"]] / sizes
    shift[:2, 3] = -sizes / 2
    return made @ back @ scale @ shift


@pytest.mark.parametrize("same", [False, True])
def test_landmarks_to_transform_matrix(same: bool, tmp_path: Path) -> None:
    options = {
        "left_rotation_idx": 1,
        "right_rotation_idx": 4,
        "subset_idxs": [0, 2, 3, 5],
        "output_height": 16,
        "output_width": 8,
        "scale_x": 1.5,
        "scale_y": 1.25,
        "target_rotation_radians": 0.3,
    }
    points = weights(1, 6, 3) * 20
    if same:
        points[0, 4] = points[0, 1]
    graph = empty()
    a, made = graph.add_tensor("points", points.shape), graph.add_tensor("y", (1, 4, 4))
    custom(graph, "Landmarks2TransformMatrix", [a], [made], bytes(flexbuffers.Dumps(options)))
    _, _, got = both(save(graph, [a], [made], tmp_path / "m.tflite"), [points])
    np.testing.assert_allclose(got[0][0], box_matrix(points[0], options), rtol=1e-4, atol=1e-4)


def test_transform_tensor_bilinear(tmp_path: Path) -> None:
    image, rows, columns = weights(1, 6, 7, 3), 4, 5
    matrix = np.float32([[[1.3, 0.4, 0, -0.8], [-0.3, 1.2, 0, 0.9], [0, 0, 1, 0], [0, 0, 0, 1]]])
    want = np.zeros((rows, columns, 3))
    outside = 0
    for y in range(rows):
        for x in range(columns):
            at = matrix[0, :2] @ [x + 0.5, y + 0.5, 0, 1] - 0.5
            if (at < 0).any() or at[0] > 6 or at[1] > 5:
                outside += 1
                continue
            (fx, fy), (px, py) = np.floor(at).astype(int), at - np.floor(at)
            padded = np.pad(image[0], [(0, 1), (0, 1), (0, 0)])
            upper = (1 - px) * padded[fy, fx] + px * padded[fy, fx + 1]
            lower = (1 - px) * padded[fy + 1, fx] + px * padded[fy + 1, fx + 1]
            want[y, x] = py * lower + (1 - py) * upper
    assert 0 < outside < rows * columns
    graph = empty()
    a, b = graph.add_tensor("image", image.shape), graph.add_tensor("matrix", matrix.shape)
    made = graph.add_tensor("y", (1, rows, columns, 3))
    options = bytes(flexbuffers.Dumps({"output_height": rows, "output_width": columns}))
    custom(graph, "TransformTensorBilinear", [a, b], [made], options)
    _, _, got = both(save(graph, [a, b], [made], tmp_path / "m.tflite"), [image, matrix])
    np.testing.assert_allclose(got[0][0], want, rtol=1e-4, atol=1e-5)


def test_pooling_with_places_and_back(tmp_path: Path) -> None:
    x = weights(1, 4, 6, 2)
    windows = x.reshape(1, 2, 2, 3, 2, 2).transpose(0, 1, 3, 5, 2, 4).reshape(1, 2, 3, 2, 4)
    graph = empty()
    a, top, at, back = (
        graph.add_tensor(n, s)
        for n, s in (("x", x.shape), ("top", (1, 2, 3, 2)), ("at", (1, 2, 3, 2)), ("back", x.shape))
    )
    options = struct.pack("<6i4i", 1, 2, 2, 2, 2, 0, 0, 0, 0, 0)
    custom(graph, "MaxPoolingWithArgmax2D", [a], [top, at], options)
    custom(graph, "MaxUnpooling2D", [top, at], [back], options)
    _, _, got = both(save(graph, [a], [top, at, back], tmp_path / "m.tflite"), [x])
    np.testing.assert_array_equal(got[0], windows.max(-1))
    np.testing.assert_allclose(got[1], windows.argmax(-1) + 0.1, rtol=1e-6)
    np.testing.assert_array_equal(got[2], np.where(np.isin(x, windows.max(-1)), x, 0))
