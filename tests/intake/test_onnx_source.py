"""ONNX as the source."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

import edgepack
from edgepack.errors import ModelError
from edgepack.intake.source import open_source
from tests.models import (
    FLOAT,
    conv_model,
    images,
    model,
    tensors,
    two_input_model,
    value,
    write,
)


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        open_source(path, path.parent)
    assert str(path) in caught.value.cause
    return str(caught.value)


def with_external_data(folder: Path, location: str) -> Path:
    """A model whose Gemm weights lie in the file `location`."""
    proto = conv_model()
    write(proto, folder / "whole.onnx")
    onnx.save(
        proto,
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=100,
    )
    if location != "weights.bin":
        proto = onnx.load(folder / "model.onnx", load_external_data=False)
        for initializer in proto.graph.initializer:
            for entry in initializer.external_data:
                if entry.key == "location":
                    entry.value = location
        write(proto, folder / "model.onnx")
    return folder / "model.onnx"


def test_it_says_what_goes_in_and_comes_out(tmp_path: Path) -> None:
    source = open_source(write(two_input_model(), tmp_path / "m.onnx"), tmp_path)
    assert list(map(str, source.inputs)) == [
        "left: float32 [batch, length]",
        "right: int64 [batch, length]",
    ]
    assert list(map(str, source.outputs)) == ["total: float32 [batch, length]", "count: float32 []"]
    assert source.framework.startswith("onnxruntime ")


def test_nameless_free_dimensions_get_names(tmp_path: Path) -> None:
    proto = conv_model()
    for edge in (proto.graph.input[0], proto.graph.output[0]):
        edge.type.tensor_type.shape.dim[0].Clear()
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    assert source.inputs[0].shape == ("batch", 8, 8, 1)
    assert source.outputs[0].shape == ("batch", 10)


def test_an_initializer_that_is_listed_as_input_is_none(tmp_path: Path) -> None:
    proto = conv_model()
    proto.graph.input.append(value("bias", FLOAT, [10]))
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    assert [s.name for s in source.inputs] == ["image"]


def test_conversion_keeps_the_answers_and_drops_who_made_it(tmp_path: Path) -> None:
    proto = conv_model()
    proto.producer_name, proto.doc_string = "somebody", "at /home/somebody"
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    made, said = source.convert(tmp_path / "made.onnx")
    assert said == ()
    assert b"somebody" not in made.path.read_bytes()
    feeds = [{"image": images(2)}]
    again = open_source(made.path, tmp_path)
    ours, theirs = again.answer(feeds)[0], source.answer(feeds)[0]
    assert np.array_equal(ours["probabilities"], theirs["probabilities"])


def test_a_file_cut_at_any_place_is_refused(tmp_path: Path) -> None:
    data = write(conv_model(), tmp_path / "m.onnx").read_bytes()
    for length in range(1, len(data), len(data) // 20):
        (tmp_path / "cut.onnx").write_bytes(data[:length])
        refusal(tmp_path / "cut.onnx")


def test_a_graph_that_does_not_hang_together_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["nowhere"], ["y"])]
    bad = model(nodes, [value("x", FLOAT, [1])], [value("y", FLOAT, [1])])
    assert "nowhere" in refusal(write(bad, tmp_path / "bad.onnx"))


def test_a_model_without_inputs_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Constant", [], ["y"], value_float=1.0)]
    proto = model(nodes, [], [value("y", FLOAT, [])])
    assert "no inputs" in refusal(write(proto, tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("dtype", "called"),
    [
        (onnx.TensorProto.STRING, "STRING"),
        (onnx.TensorProto.COMPLEX64, "COMPLEX64"),
        (onnx.TensorProto.BFLOAT16, "BFLOAT16"),
    ],
)
def test_a_dtype_without_raw_form_is_refused_by_name(
    tmp_path: Path, dtype: int, called: str
) -> None:
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    proto = model(nodes, [value("x", dtype, [1])], [value("y", dtype, [1])])
    with pytest.raises(ModelError, match=f"x is of type {called}"):
        open_source(write(proto, tmp_path / "m.onnx"), tmp_path)


def test_an_input_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    sequence = helper.make_tensor_sequence_value_info("x", FLOAT, [1])
    nodes = [helper.make_node("SequenceLength", ["x"], ["y"])]
    proto = model(nodes, [sequence], [value("y", onnx.TensorProto.INT64, [])])
    with pytest.raises(ModelError, match="x is a sequence_type"):
        open_source(write(proto, tmp_path / "m.onnx"), tmp_path)


def test_an_input_of_unknown_rank_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    proto = model(nodes, [value("x", FLOAT, None)], [value("y", FLOAT, None)])
    assert "shape" in refusal(write(proto, tmp_path / "m.onnx"))


def test_external_data_beside_the_model_are_taken_in(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, "weights.bin")
    source = open_source(path, tmp_path)
    (tmp_path / "elsewhere").mkdir()
    made, _ = source.convert(tmp_path / "elsewhere" / "made.onnx")
    (tmp_path / "weights.bin").unlink()
    whole = open_source(tmp_path / "whole.onnx", tmp_path)
    feeds = [{"image": images(2)}]
    again = open_source(made.path, tmp_path)
    assert np.array_equal(
        again.answer(feeds)[0]["probabilities"], whole.answer(feeds)[0]["probabilities"]
    )


@pytest.mark.parametrize("location", ["../weights.bin", "/etc/hostname", "none.bin"])
def test_external_data_elsewhere_are_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "inside").mkdir()
    path = with_external_data(tmp_path / "inside", location)
    (tmp_path / "inside" / "weights.bin").rename(tmp_path / "weights.bin")
    refusal(path)


def test_external_data_behind_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    path = with_external_data(tmp_path / "inside", "weights.bin")
    (tmp_path / "inside" / "weights.bin").rename(tmp_path / "weights.bin")
    (tmp_path / "inside" / "weights.bin").symlink_to(tmp_path / "weights.bin")
    refusal(path)


def test_external_data_are_part_of_the_models_digest_and_size(tmp_path: Path) -> None:
    seen = []
    for factor in (1, 2):
        folder = tmp_path / str(factor)
        folder.mkdir()
        path = with_external_data(folder, "weights.bin")
        weights = np.frombuffer((folder / "weights.bin").read_bytes(), np.float32) * factor
        (folder / "weights.bin").write_bytes(weights.tobytes())
        data = edgepack.inspect(path)
        assert data["size"] == path.stat().st_size + weights.nbytes
        seen.append((path.read_bytes(), data["sha256"]))
    (first, first_digest), (second, second_digest) = seen
    assert first == second
    assert first_digest != second_digest


# Old files, and what few exporters write


def answers_before_and_after(path: Path, folder: Path, **feeds: np.ndarray) -> list[np.ndarray]:
    """Every output of the source, then of what was made of it."""
    source = open_source(path, folder)
    (folder / "made").mkdir()
    made, _ = source.convert(folder / "made" / "made.onnx")
    again = open_source(made.path, folder)
    assert again.inputs == source.inputs
    return [*source.answer([feeds])[0].values(), *again.answer([feeds])[0].values()]


def test_initializers_that_are_inputs_too_become_constants(tmp_path: Path) -> None:
    proto = conv_model()
    proto.ir_version = 3
    for initializer in proto.graph.initializer:
        proto.graph.input.append(value(initializer.name, FLOAT, list(initializer.dims)))
    source = open_source(write(proto, tmp_path / "m.onnx"), tmp_path)
    assert [s.name for s in source.inputs] == ["image"]
    made, _ = source.convert(tmp_path / "made.onnx")
    written = onnx.load(made.path)
    assert [v.name for v in written.graph.input] == ["image"]
    assert written.ir_version == 4
    onnx.checker.check_model(written)


def test_functions_of_the_model_itself_are_written_out(tmp_path: Path) -> None:
    twice = helper.make_function(
        "mine",
        "Twice",
        ["a"],
        ["b"],
        [helper.make_node("Add", ["a", "a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    nodes = [
        helper.make_node("Twice", ["x"], ["t"], domain="mine"),
        helper.make_node("Mul", ["t", "w"], ["y"]),
    ]
    w = np.arange(400, dtype=np.float32)
    proto = model(
        nodes,
        [value("x", FLOAT, [400])],
        [value("y", FLOAT, [400])],
        tensors({"w": w}),
        domains=["mine"],
    )
    proto.functions.append(twice)
    path = write(proto, tmp_path / "m.onnx")
    before, after = answers_before_and_after(path, tmp_path, x=np.ones(400, np.float32))
    assert np.array_equal(before, 2 * w)
    assert np.array_equal(after, before)
    made = onnx.load(tmp_path / "made" / "made.onnx")
    assert [n.op_type for n in made.graph.node] == ["Add", "Mul"]
    assert not made.functions
    assert [o.domain for o in made.opset_import] == [""]


@pytest.mark.parametrize("linear", [True, False])
def test_sparse_initializers_become_dense(tmp_path: Path, linear: bool) -> None:
    values = numpy_helper.from_array(np.float32([5, 7]), "w")
    places = np.array([1, 5]) if linear else np.array([[0, 1], [1, 2]])
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(places, "at"), [2, 3])
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    proto = model(nodes, [value("x", FLOAT, [2, 3])], [value("y", FLOAT, [2, 3])])
    proto.graph.sparse_initializer.append(sparse)
    path = write(proto, tmp_path / "m.onnx")
    source = open_source(path, tmp_path)
    made, _ = source.convert(tmp_path / "made.onnx")
    ours = open_source(made.path, tmp_path).answer([{"x": np.zeros((2, 3), np.float32)}])
    assert ours[0]["y"].tolist() == [[0, 5, 0], [0, 0, 7]]


def test_small_constants_that_lay_outside_come_into_the_graph(tmp_path: Path) -> None:
    nodes = [helper.make_node("Reshape", ["x", "shape"], ["y"])]
    proto = model(
        nodes,
        [value("x", FLOAT, [2, 3])],
        [value("y", FLOAT, [3, 2])],
        tensors({"shape": np.array([3, 2])}),
    )
    path = tmp_path / "m.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="m.data", size_threshold=0)
    made, _ = open_source(path, tmp_path).convert(tmp_path / "made.onnx")
    assert made.beside == ()
    assert numpy_helper.to_array(onnx.load(made.path).graph.initializer[0]).tolist() == [3, 2]


# Hostile files: one clear error each, nothing read elsewhere, nothing left behind


def refused_cleanly(path: Path) -> str:
    """What is said of the file at `path`; nothing but what lay there before lies there afterwards."""
    before = sorted(path.parent.rglob("*"))
    with pytest.raises(ModelError) as caught:
        edgepack.convert(path, path.parent / "out" / "made.onnx")
    assert sorted(path.parent.rglob("*")) == before
    assert str(path) in caught.value.cause
    return str(caught.value)


def pointing(folder: Path, **entries: str) -> Path:
    """A model whose Gemm weights are said to lie elsewhere in, before or after the file `weights.bin`."""
    path = with_external_data(folder, "weights.bin")
    (folder / "whole.onnx").unlink()
    proto = onnx.load(path, load_external_data=False)
    for initializer in proto.graph.initializer:
        for entry in initializer.external_data:
            if initializer.name == "half_weight" and entry.key in entries:
                entry.value = entries[entry.key]
    return write(proto, path)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"location": ""}, "no path beside the model"),
        ({"location": "."}, "no path beside the model"),
        ({"location": "/etc/passwd"}, "no path beside the model"),
        ({"location": "..\\weights.bin"}, "no path beside the model"),
        ({"location": "a\0b"}, "no path beside the model"),
        ({"location": "a/../../weights.bin"}, "outside the model's folder"),
        ({"location": "../weights.bin"}, "outside the model's folder"),
        ({"location": "C:/weights.bin"}, "outside the model's folder"),
        ({"location": "none.bin"}, "No such file"),
        ({"location": "deep/none.bin"}, "No such file"),
        ({"offset": "-4"}, "not a whole number"),
        ({"offset": "1e3"}, "not a whole number"),
        ({"offset": "999999999999999999999"}, "which has"),
        ({"offset": "1500"}, "which has"),
        ({"length": "-1"}, "not a whole number"),
        ({"length": "4"}, "needs 1280"),
        ({"length": "1125899906842624"}, "needs 1280"),
    ],
)
def test_external_data_that_are_not_what_they_say_are_refused(
    tmp_path: Path, entries: dict[str, str], said: str
) -> None:
    text = refused_cleanly(pointing(tmp_path, **entries))
    assert said in text
    assert "half_weight" in text


@pytest.mark.parametrize("kind", ["file link", "folder link", "hard link", "folder", "pipe"])
def test_external_data_that_are_no_file_of_their_own_are_refused(tmp_path: Path, kind: str) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    location = "sub/weights.bin" if kind == "folder link" else "weights.bin"
    path = pointing(inside, location=location)
    data = (inside / "weights.bin").rename(outside / "weights.bin")
    if kind == "file link":
        (inside / "weights.bin").symlink_to(data)
    elif kind == "folder link":
        (inside / "sub").symlink_to(outside)
        (inside / "weights.bin").write_bytes(data.read_bytes())
    elif kind == "hard link":
        (inside / "weights.bin").hardlink_to(data)
    elif kind == "folder":
        (inside / "weights.bin").mkdir()
    else:
        os.mkfifo(inside / "weights.bin")
    assert "link" in refused_cleanly(path) or "no regular file" in refused_cleanly(path)


def with_weight(**fields: object) -> onnx.ModelProto:
    """A model whose one initializer is made of `fields`."""
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    proto = model(nodes, [value("x", FLOAT, [1])], [value("y", FLOAT, None)])
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_param = "n"
    proto.graph.initializer.append(onnx.TensorProto(name="w", **fields))
    return proto


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"dims": [1 << 40], "data_type": FLOAT, "raw_data": b"1234"}, "needs 4,398,046,511,104 bytes and has 4"),
        ({"dims": [1 << 40], "data_type": FLOAT, "raw_data": bytes(4096)}, "4096 bytes"),
        ({"dims": [1 << 62, 1 << 62], "data_type": FLOAT, "raw_data": b"1234"}, "and has 4"),
        ({"dims": [-1], "data_type": FLOAT, "raw_data": b"1234"}, "shape [-1]"),
        ({"dims": [2], "data_type": FLOAT, "float_data": [1.0]}, "needs 2 values and has 1"),
        ({"dims": [1], "data_type": 99, "raw_data": b"1234"}, "type 99"),
        ({"dims": [1], "data_type": 0, "raw_data": b"1234"}, "type 0"),
    ],
)  # fmt: skip
def test_weights_that_do_not_fill_their_shape_are_refused(
    tmp_path: Path, fields: dict[str, object], said: str
) -> None:
    assert said in refused_cleanly(write(with_weight(**fields), tmp_path / "m.onnx"))


def test_a_sparse_initializer_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    proto = with_weight(dims=[1], data_type=FLOAT, raw_data=b"1234")
    one = numpy_helper.from_array(np.float32([1]), "s")
    at = numpy_helper.from_array(np.array([5]), "at")
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(one, at, [1 << 20, 1 << 20]))
    assert "'s'" in refused_cleanly(write(proto, tmp_path / "m.onnx"))


def test_nodes_in_a_circle_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    proto = model(nodes, [value("x", FLOAT, [1])], [value("b", FLOAT, [1])])
    assert "in a circle: that of a, that of b" in refused_cleanly(write(proto, tmp_path / "m.onnx"))


@pytest.mark.parametrize("what", ["inputs", "outputs", "initializers", "values"])
def test_a_name_given_twice_is_refused(tmp_path: Path, what: str) -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])] * (2 if what == "values" else 1)
    edges = {"inputs": [value("x", FLOAT, [2])], "outputs": [value("y", FLOAT, [2])]}
    constants = {"initializers": tensors({"w": np.ones(2, np.float32)})}
    for kind in (edges, constants):
        if what in kind:
            kind[what] = kind[what] * 2
    proto = model(nodes, edges["inputs"], edges["outputs"], constants["initializers"])
    text = refused_cleanly(write(proto, tmp_path / "m.onnx"))
    assert f"two {what} are called" in text or "single static assignment" in text


def test_more_nodes_than_any_device_runs_are_refused_at_once(tmp_path: Path) -> None:
    proto = model([], [value("x", FLOAT, [1])], [value("x", FLOAT, [1])])
    node = helper.make_node("Relu", ["x"], ["y"]).SerializeToString()
    # Fields of one message may be spread: protobuf joins them.
    graph = b"".join(b"\x0a" + bytes([len(node)]) + node for _ in range(1_000_000))
    length = len(graph)
    head = bytearray(b"\x3a")
    while length >= 0x80:
        head.append(length & 0x7F | 0x80)
        length >>= 7
    head.append(length)
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString() + bytes(head) + graph)
    assert "1,000,000 nodes" in refused_cleanly(path)


def test_bytes_that_say_a_field_goes_on_beyond_the_file_are_refused(tmp_path: Path) -> None:
    data = write(conv_model(), tmp_path / "m.onnx").read_bytes()
    at = data.index(b"kernel_bias")
    for length in (b"\xff\xff\xff\xff\x07", b"\xff" * 12):
        (tmp_path / "m.onnx").write_bytes(data[: at - 1] + length + data[at:])
        refused_cleanly(tmp_path / "m.onnx")


def test_an_operator_set_before_onnxruntimes_first_is_taken_to_one_it_runs(tmp_path: Path) -> None:
    weight = np.arange(3, dtype=np.float32)
    node = helper.make_node("Add", ["x", "w"], ["y"], broadcast=1, axis=1)
    proto = model(
        [node],
        [value("x", FLOAT, [2, 3]), value("w", FLOAT, [3])],
        [value("y", FLOAT, [2, 3])],
        tensors({"w": weight}),
        opset=5,
    )
    proto.ir_version = 3
    result = edgepack.convert(write(proto, tmp_path / "m.onnx"), tmp_path / "made.onnx")
    assert result.model.opset == 9
    assert "operator set 5" in result.framework
    x = np.ones((2, 3), np.float32)
    made = open_source(result.path, tmp_path).answer([{"x": x}])[0]["y"]
    assert np.array_equal(made, x + weight)


def test_nodes_in_any_order_are_put_in_theirs(tmp_path: Path) -> None:
    proto = conv_model()
    nodes = list(proto.graph.node)
    in_order = write(proto, tmp_path / "in_order.onnx")
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(nodes))
    path = write(proto, tmp_path / "m.onnx")
    before, after = answers_before_and_after(path, tmp_path, image=images(1))
    assert np.array_equal(before, after)
    made = onnx.load(tmp_path / "made" / "made.onnx").graph.node
    done: set[str] = {"image"} | {i.name for i in onnx.load(in_order).graph.initializer}
    for node in made:
        assert set(node.input) <= done
        done |= set(node.output)


@pytest.mark.parametrize("keep_edges", [True, False])
def test_a_float16_model_is_held_to_float16s_rounding(tmp_path: Path, keep_edges: bool) -> None:
    half = convert_float_to_float16(conv_model(features=64), keep_io_types=keep_edges)
    result = edgepack.convert(write(half, tmp_path / "m.onnx"), tmp_path / "made.onnx")
    (parity,) = result.parity
    assert parity.passed
    assert 1e-4 < parity.allowed_abs < 2e-2


def quantized_chain(layers: int = 8) -> onnx.ModelProto:
    """float32 `x` [1, 8, 12, 12] through U8U8 Convs between Q/DQ pairs, as exporters write them, to `y` of the same shape."""
    rng = np.random.default_rng(0)
    arrays = {"scale": np.float32(0.03), "zero": np.uint8(128), "w_scale": np.float32(0.002)}
    last, nodes = "x", []
    for i in range(layers):
        arrays[f"w{i}"] = rng.integers(0, 255, size=(8, 8, 3, 3)).astype(np.uint8)
        nodes += [
            helper.make_node("QuantizeLinear", [last, "scale", "zero"], [f"q{i}"]),
            helper.make_node("DequantizeLinear", [f"q{i}", "scale", "zero"], [f"x{i}"]),
            helper.make_node("DequantizeLinear", [f"w{i}", "w_scale", "zero"], [f"k{i}"]),
            helper.make_node("Conv", [f"x{i}", f"k{i}"], [f"c{i}"], pads=[1] * 4),
        ]
        last = f"c{i}"
    nodes += [
        helper.make_node("QuantizeLinear", [last, "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
    ]
    shape = (1, 8, 12, 12)
    return model(nodes, [value("x", FLOAT, shape)], [value("y", FLOAT, shape)], tensors(arrays))


def test_a_model_that_came_quantized_is_held_to_its_integer_kernels_rounding(
    tmp_path: Path,
) -> None:
    result = edgepack.convert(write(quantized_chain(), tmp_path / "m.onnx"), tmp_path / "made.onnx")
    (parity,) = result.parity
    # A step of an integer, which no tolerance of float32's allows.
    assert parity.max_abs > 1e-2
    assert parity.passed


def test_a_device_may_round_its_integers_as_other_kernels_do(tmp_path: Path) -> None:
    path = write(quantized_chain(), tmp_path / "m.onnx")
    # What is shipped for a phone is opened there without the optimizations it was proved with.
    (result,) = edgepack.build(path, targets=["android"], output_dir=tmp_path / "out")
    (case, *_) = edgepack.load_manifest(result.bundle).golden
    (shipped,) = (e for e in case.expect if e.origin == "shipped")
    assert shipped.atol > 1e-2
