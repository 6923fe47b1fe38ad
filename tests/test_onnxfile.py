"""ONNX files: weights by reference, one file or two, always the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgepack import onnxfile, skeleton, weights
from edgepack.errors import ModelError
from tests.models import (
    FLOAT,
    answers_of,
    conv_model,
    free_size_model,
    images,
    model,
    tensors,
    two_input_model,
    value,
    wrap,
    write,
)

#: Tensors of every way to hold values, some large enough to become references.
MIXED = {
    "floats": np.arange(600, dtype=np.float32).reshape(20, 30),
    "halves": np.arange(1000, dtype=np.float16),
    "bools": np.arange(2000) % 3 == 0,
    "scalar": np.array(7, np.int64),
    "none": np.zeros((0, 5), np.float32),
}


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", 2000)


def mixed_model() -> onnx.ModelProto:
    proto = conv_model(features=64)
    proto.graph.initializer.extend(tensors(MIXED))
    typed = proto.graph.initializer.add()
    typed.name, typed.data_type = "typed", TensorProto.FLOAT
    typed.dims.append(500)
    typed.float_data.extend(np.arange(500, dtype=np.float32))
    proto.graph.initializer.append(helper.make_tensor("texts", TensorProto.STRING, [2], ["a", "b"]))
    nibbles = np.zeros(4000, np.uint8).tobytes()
    proto.graph.initializer.append(
        helper.make_tensor("nibbles", TensorProto.INT4, [8000], nibbles, raw=True)
    )
    return proto


def values_of(path: Path) -> dict[str, np.ndarray]:
    """Every initializer, read by onnx itself."""
    return {i.name: numpy_helper.to_array(i) for i in onnx.load(path).graph.initializer}


# Reading and writing one file


@pytest.mark.parametrize(
    "proto", [conv_model(features=512), two_input_model(), free_size_model(), mixed_model()]
)
def test_a_file_read_by_reference_and_written_again_has_the_same_bytes(
    proto: onnx.ModelProto, tmp_path: Path
) -> None:
    start = write(proto, tmp_path / "start.onnx")
    made = onnxfile.save(skeleton.read(start), tmp_path / "made.onnx", folder=tmp_path)
    assert made.path.read_bytes() == start.read_bytes()
    assert made.beside == ()


def test_a_model_in_memory_is_written_as_protobuf_writes_it(tmp_path: Path) -> None:
    expected = mixed_model().SerializeToString(deterministic=True)
    assert onnxfile.save(mixed_model(), tmp_path / "m.onnx").path.read_bytes() == expected


def test_large_initializers_are_references_and_small_ones_are_not(tmp_path: Path) -> None:
    start = wrap(mixed_model(), tmp_path)
    by_name = {i.name: i for i in onnxfile.load(start).graph.initializer}
    for name, x in MIXED.items():
        assert weights.is_reference(by_name[name]) == (x.nbytes >= weights.SMALL_BYTES)
        assert np.array_equal(weights.array(by_name[name], tmp_path), x)
    assert onnxfile.load(start).ByteSize() < 0.3 * start.size_bytes


def test_a_file_may_be_saved_over_the_one_it_was_read_from(tmp_path: Path) -> None:
    start = wrap(mixed_model(), tmp_path)
    before = start.path.read_bytes()
    onnxfile.save(onnxfile.load(start), start.path, folder=tmp_path)
    assert start.path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["start.onnx"]


# Two files


@pytest.mark.usefixtures("low_limit")
def test_beyond_the_limit_the_weights_lie_in_a_second_file(tmp_path: Path) -> None:
    made = wrap(mixed_model(), tmp_path)
    assert made.beside == (tmp_path / "start.onnx.data",)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["start.onnx", "start.onnx.data"]
    assert made.size_bytes == sum(p.stat().st_size for p in tmp_path.iterdir())
    found = values_of(made.path)
    for tensor in mixed_model().graph.initializer:
        assert np.array_equal(found[tensor.name], numpy_helper.to_array(tensor)), tensor.name


@pytest.mark.usefixtures("low_limit")
def test_onnx_itself_finds_the_two_files_valid_and_onnxruntime_runs_them(tmp_path: Path) -> None:
    made = wrap(conv_model(features=512), tmp_path)
    onnx.checker.check_model(str(made.path))
    assert len(made.beside) == 1
    (tmp_path / "one").mkdir()
    one = write(conv_model(features=512), tmp_path / "one" / "m.onnx")
    ours = answers_of(made, image=images(2))
    theirs = answers_of(onnxfile.wrap_file(one), image=images(2))
    assert np.array_equal(ours["probabilities"], theirs["probabilities"])


@pytest.mark.usefixtures("low_limit")
def test_offsets_are_where_every_system_can_map_them(tmp_path: Path) -> None:
    arrays = {"a": np.ones(300, np.float32), "b": np.ones(1 << 19, np.float32), "c": np.ones(300)}
    proto = model([], [value("x", FLOAT, [1])], [value("x", FLOAT, [1])], tensors(arrays))
    made = onnxfile.save(proto, tmp_path / "m.onnx")
    places = {
        i.name: weights.region(i, tmp_path).offset for i in onnxfile.load(made).graph.initializer
    }
    assert places["a"] == 0
    assert places["b"] == 65536
    assert places["c"] % 64 == 0


@pytest.mark.usefixtures("low_limit")
def test_the_digest_covers_the_second_file(tmp_path: Path) -> None:
    one = wrap(conv_model(features=512), tmp_path)
    (data,) = one.beside
    changed = bytearray(data.read_bytes())
    changed[100] ^= 1
    digest = one.sha256
    data.write_bytes(changed)
    assert onnxfile.wrap_file(one.path).sha256 != digest


@pytest.mark.usefixtures("low_limit")
def test_the_same_model_gives_the_same_two_files_in_any_folder(tmp_path: Path) -> None:
    seen = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        made = wrap(mixed_model(), tmp_path / name)
        seen.append((made.path.read_bytes(), made.beside[0].read_bytes(), made.sha256))
        assert str(tmp_path).encode() not in made.path.read_bytes()
    assert seen[0] == seen[1]


def test_two_files_saved_below_the_limit_become_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", 2000)
    two = wrap(conv_model(features=512), tmp_path, "two")
    monkeypatch.undo()
    made = onnxfile.save(onnxfile.load(two), tmp_path / "one.onnx", folder=tmp_path)
    assert made.beside == ()
    assert values_of(made.path).keys() == values_of(two.path).keys()


def test_a_moved_model_finds_its_second_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", 2000)
    made = wrap(conv_model(features=512), tmp_path)
    (tmp_path / "there").mkdir()
    moved = made.moved_to(tmp_path / "there" / "other.onnx")
    for old, new in zip((made.path, *made.beside), (moved.path, *moved.beside), strict=True):
        old.rename(new)
    assert answers_of(moved, image=images(1))["probabilities"].shape == (1, 10)


# Weights that come one at a time


def stream(*names: str) -> Iterator[tuple[str, np.ndarray]]:
    for name in names:
        yield name, MIXED[name]


@pytest.mark.parametrize("limit", [2000, weights.INLINE_LIMIT_BYTES])
def test_arrays_become_initializers_in_their_order(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", limit)
    made = onnxfile.save(two_input_model(), tmp_path / "m.onnx", arrays=stream(*MIXED))
    found = values_of(made.path)
    assert list(found) == list(MIXED)
    for name, x in MIXED.items():
        assert np.array_equal(found[name], x)
        assert found[name].dtype == x.dtype
    assert bool(made.beside) == (limit == 2000)
    assert len(list(tmp_path.iterdir())) == 1 + len(made.beside)


def test_streamed_arrays_give_the_bytes_that_initializers_give(tmp_path: Path) -> None:
    whole = two_input_model()
    whole.graph.initializer.extend(tensors(MIXED))
    made = onnxfile.save(two_input_model(), tmp_path / "m.onnx", arrays=stream(*MIXED))
    assert made.path.read_bytes() == whole.SerializeToString(deterministic=True)


@pytest.mark.parametrize("limit", [2000, weights.INLINE_LIMIT_BYTES])
def test_an_array_replaces_the_initializer_of_its_name_where_that_stands(
    limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "INLINE_LIMIT_BYTES", limit)
    proto = two_input_model()
    for name in MIXED:
        proto.graph.initializer.append(TensorProto(name=name, data_type=FLOAT, dims=[1]))
    made = onnxfile.save(proto, tmp_path / "m.onnx", arrays=stream(*reversed(MIXED)))
    found = values_of(made.path)
    assert list(found) == list(MIXED)
    assert all(np.array_equal(found[name], x) for name, x in MIXED.items())


def test_an_error_on_the_way_leaves_no_file(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, np.ndarray]]:
        yield "floats", MIXED["floats"]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        onnxfile.save(two_input_model(), tmp_path / "m.onnx", arrays=broken())
    assert list(tmp_path.iterdir()) == []


# Lift and lower


@pytest.mark.parametrize("as_inputs", [False, True])
def test_lower_undoes_lift(tmp_path: Path, as_inputs: bool) -> None:
    proto = mixed_model()
    if as_inputs:
        proto.graph.input.append(value("floats", FLOAT, [20, 30]))
    read = onnxfile.load(wrap(proto, tmp_path))
    before = read.SerializeToString(deterministic=True)
    lifted = weights.lift(read)
    assert not any(map(weights.is_reference, read.graph.initializer))
    assert {"image", "floats", "halves"} <= {v.name for v in read.graph.input}
    weights.lower(read, lifted)
    assert read.SerializeToString(deterministic=True) == before


def test_a_reference_to_nothing_is_refused(tmp_path: Path) -> None:
    proto = two_input_model()
    stub = proto.graph.initializer.add()
    stub.name, stub.data_type, stub.data_location = "w", FLOAT, TensorProto.EXTERNAL
    with pytest.raises(ModelError, match="'w'"):
        onnxfile.save(proto, tmp_path / "m.onnx")
