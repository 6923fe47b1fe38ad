"""Damaged and hostile files give one ModelError; the same file gives the same bytes."""

from __future__ import annotations

import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema

from edgepack.errors import ModelError
from edgepack.intake.tflite.flatbuffer import Graph, write
from edgepack.intake.tflite.model import TFLiteModel
from edgepack.intake.tflite.plain import load
from edgepack.intake.tflite.verify import verify
from tests.intake.tflite.build import convert, empty, weights


@pytest.fixture(scope="module")
def sound() -> bytes:
    def net(x: tf.Tensor) -> tf.Tensor:
        y = tf.nn.relu(tf.nn.conv2d(x, weights(3, 3, 3, 4), 2, "SAME") + weights(4))
        return tf.nn.softmax(tf.matmul(tf.reduce_mean(y, [1, 2]), weights(4, 5)))

    return convert(net, (1, 8, 8, 3))


def test_a_cut_file_is_refused_wherever_it_is_cut(sound: bytes, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    load_or_refuse(sound, path)
    sizes = range(0, len(sound) - 1, max(1, len(sound) // 40))
    for size in sizes:
        with pytest.raises(ModelError):
            load_or_refuse(sound[:size], path)


def test_any_changed_byte_is_read_or_refused_and_costs_little(sound: bytes, tmp_path: Path) -> None:
    rng, path, refused = np.random.default_rng(0), tmp_path / "m.tflite", 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(400):
        changed = bytearray(sound)
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(8, len(changed) - 4))
            extreme = int(rng.choice([0, 0x7F, 0xFF, 0x80, int(rng.integers(256))]))
            changed[place : place + 4] = bytes([extreme] * 4)
        try:
            load_or_refuse(bytes(changed), path)
        except ModelError:
            refused += 1
    assert refused > 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def load_or_refuse(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    load(path, None, ())


def test_a_vector_of_four_billion_elements_is_refused_at_once(tmp_path: Path) -> None:
    # A root table whose field 1 (operator_codes) is a vector that claims 2^32 − 1 elements.
    data = struct.pack("<I4sHHHHiII", 16, b"TFL3", 8, 8, 0, 4, 8, 4, 0xFFFFFFFF)
    with pytest.raises(ModelError, match="4294967295 elements"):
        verify(data, tmp_path / "m.tflite")


def test_tables_that_all_share_one_vector_are_refused(tmp_path: Path) -> None:
    """20,000 operator codes with one and the same megabyte of a name: read one by one, 20 GB."""
    count, name = 20_000, b"x" * (1 << 20)
    head = struct.pack("<I4sHHHHiI", 16, b"TFL3", 8, 8, 0, 4, 8, 4)
    tables = len(head) + 4 + 4 * count
    vtable = tables
    first = vtable + 8
    offsets, body = b"", b""
    for i in range(count):
        at = first + 8 * i
        offsets += struct.pack("<I", at - (len(head) + 4 + 4 * i))
        body += struct.pack("<iI", at - vtable, first + 8 * count - (at + 4))
    data = head + struct.pack("<I", count) + offsets + struct.pack("<HHHH", 8, 8, 0, 4) + body
    data += struct.pack("<I", len(name)) + name
    with pytest.raises(ModelError, match="share more data"):
        verify(data, tmp_path / "m.tflite")


def chain() -> Graph:
    graph = empty()
    x, a, y = (graph.add_tensor(n, (2, 3)) for n in ("x", "a", "y"))
    graph.operators.append(graph.operator("NEG", [x], [a]))
    graph.operators.append(graph.operator("ABS", [a], [y]))
    graph.subgraph.inputs, graph.subgraph.outputs = [x], [y]
    return graph


def _output(g: Graph) -> None:
    g.subgraph.outputs = [9]


def _input(g: Graph) -> None:
    g.operators[0].inputs = [-2]


def _circle(g: Graph) -> None:
    g.operators[0].inputs = [2]


def _twice(g: Graph) -> None:
    g.operators[1].outputs = [1]


def _code(g: Graph) -> None:
    g.operators[0].opcodeIndex = 7


def _operator(g: Graph) -> None:
    g.model.operatorCodes[0].builtinCode = 4000


def _buffer(g: Graph) -> None:
    g.tensors[0].buffer = 77


def _negative(g: Graph) -> None:
    g.tensors[0].shape = np.array([-5, 3], np.int32)


def _huge(g: Graph) -> None:
    g.tensors[1].shape = np.array([1 << 30, 1 << 30], np.int32)


def _type(g: Graph) -> None:
    g.tensors[0].type = 99


def _short(g: Graph) -> None:
    index = g.add_constant("w", np.zeros((2, 3), np.float32))
    g.tensors[index].shape = np.array([2, 4], np.int32)


def _scales(g: Graph) -> None:
    scales = np.ones(4, np.float32)
    g.tensors[0].quantization = schema.QuantizationParametersT(scale=scales, quantizedDimension=1)


def _self(g: Graph) -> None:
    options = schema.WhileOptionsT(condSubgraphIndex=0, bodySubgraphIndex=0)
    g.operators[1] = g.operator("WHILE", [1], [2], options)


def _absent(g: Graph) -> None:
    options = schema.IfOptionsT(thenSubgraphIndex=5, elseSubgraphIndex=6)
    g.operators[1] = g.operator("IF", [1], [2], options)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_output, "tensor 9 of 3 among its outputs"),
        (_input, "reads tensor -2"),
        (_circle, "which nothing before it makes"),
        (_twice, "which is made before it"),
        (_code, "operator code 7"),
        (_operator, "4000"),
        (_buffer, "buffer 77"),
        (_negative, r"shape \[-5, 3\]"),
        (_huge, "would take"),
        (_type, "type 99"),
        (_short, "needs 32 bytes and has 24"),
        (_scales, "4 scales on axis 1"),
        (_self, "in a circle"),
        (_absent, "calls subgraph"),
    ],
)
def test_parts_that_do_not_fit_are_named(
    damage: Callable[[Graph], None], words: str, tmp_path: Path
) -> None:
    graph, path = chain(), tmp_path / "m.tflite"
    path.write_bytes(write(graph.model))
    TFLiteModel.open(path)
    damage(graph)
    path.write_bytes(write(graph.model))
    with pytest.raises(ModelError, match=words) as caught:
        TFLiteModel.open(path)
    assert str(path) in caught.value.cause


def test_two_processes_with_different_hash_seeds_write_the_same_bytes(
    sound: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(sound)
    code = (
        "import sys; from pathlib import Path; from edgepack.intake.tflite.model import TFLiteModel;"
        "TFLiteModel.open(Path(sys.argv[1])).convert(Path(sys.argv[2]))"
    )
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        command = [
            sys.executable,
            "-W",
            "error::UserWarning",
            "-c",
            code,
            str(path),
            str(tmp_path / seed),
        ]
        subprocess.run(command, env=environment, check=True, capture_output=True)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
