"""Arrays as samples: what is taken, and what is refused with which words."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.samples.dataset import Samples
from edgepack.samples.opening import open_samples, require_exists

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 4, 4, 1))
LENGTH = TensorSpec(name="length", dtype="int64", shape=("batch", 1))


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def samples(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).random((count, 4, 4, 1)).astype(np.float32)


def checked(data: object, *specs: TensorSpec, labelled: bool = False) -> Samples:
    return open_samples(data, specs=specs or (IMAGE,), folder=Path("spool"), labelled=labelled)


def refusal(data: object, *specs: TensorSpec, labelled: bool = False) -> str:
    with pytest.raises(DataError) as caught:
        checked(data, *specs, labelled=labelled)
    return str(caught.value)


def feeds(calibration: Samples, *specs: TensorSpec) -> list[dict[str, np.ndarray]]:
    return list(calibration.feeds(specs or (IMAGE,)))


def test_npz_npy_array_and_mapping_are_the_same_data(tmp_path: Path) -> None:
    x = samples()
    np.savez(tmp_path / "x.npz", image=x)
    np.save(tmp_path / "x.npy", x)
    ways = [tmp_path / "x.npz", str(tmp_path / "x.npy"), x, {"image": x}]
    assert len({checked(way).digest for way in ways}) == 1


def test_the_digest_sees_one_changed_value() -> None:
    x = samples()
    y = x.copy()
    y[3, 2, 1, 0] += 1e-3
    assert checked(x).digest != checked(y).digest


def test_one_array_fits_one_input_whatever_its_name() -> None:
    assert "image" in feeds(checked({"arr_0": samples()}))[0]


def test_wrong_names_are_listed_beside_the_models() -> None:
    said = refusal({"image": samples(), "size": samples()}, IMAGE, LENGTH)
    assert "'image', 'size'" in said
    assert "'image', 'length'" in said


def test_no_data_is_nothing_to_miss_and_another_type_is_refused() -> None:
    require_exists(None)
    with pytest.raises(UsageError, match="int"):
        require_exists(7)
    with pytest.raises(UsageError, match="int"):
        checked(7)


def test_float64_becomes_float32_and_int32_int64() -> None:
    data = {"image": samples().astype(np.float64), "length": np.ones((5, 1), np.int32)}
    feed = feeds(checked(data, IMAGE, LENGTH), IMAGE, LENGTH)[0]
    assert feed["image"].dtype == np.float32
    assert feed["length"].dtype == np.int64


@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "complex64", "U3"])
def test_another_kind_of_dtype_is_refused_and_both_are_named(dtype: str) -> None:
    said = refusal(np.zeros((2, 4, 4, 1), dtype))
    assert str(np.dtype(dtype)) in said
    assert "float32" in said


@pytest.mark.parametrize("shape", [(5, 4, 4, 3), (5, 4, 4), (5, 1, 4, 4, 1, 1), (4,), ()])
def test_a_wrong_shape_is_refused_and_both_are_named(shape: tuple[int, ...]) -> None:
    said = refusal(np.zeros(shape, np.float32))
    assert str(list(shape)) in said
    assert "[N, 4, 4, 1]" in said


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_named_with_its_sample_and_index(bad: float) -> None:
    x = samples()
    x[3, 2, 1, 0] = bad
    said = refusal(x)
    assert "sample 3" in said
    assert str(bad) in said
    assert "[2, 1, 0]" in said


def test_no_sample_is_refused() -> None:
    assert "no sample" in refusal(samples(0))
    assert "nothing" in refusal({})


def test_different_counts_are_refused_and_listed() -> None:
    said = refusal({"image": samples(5), "length": np.ones((4, 1), np.int64)}, IMAGE, LENGTH)
    assert "image: 5" in said
    assert "length: 4" in said


def test_fewer_samples_than_a_batch_are_refused() -> None:
    batched = TensorSpec(name="image", dtype="float32", shape=(8, 4, 4, 1))
    with pytest.raises(DataError, match=r"5 samples; the model takes 8"):
        feeds(checked(samples(5)), batched)


def test_a_batch_is_filled_and_the_rest_left_over() -> None:
    batched = TensorSpec(name="image", dtype="float32", shape=(2, 4, 4, 1))
    x = samples(5)
    given = feeds(checked(x), batched)
    assert [f["image"].shape for f in given] == [(2, 4, 4, 1)] * 2
    assert np.array_equal(given[1]["image"], x[2:4])


def test_samples_of_another_size_than_was_fixed_are_refused() -> None:
    free = TensorSpec(name="image", dtype="float32", shape=("batch", "height", "width", 1))
    fixed = TensorSpec(name="image", dtype="float32", shape=(1, 8, 8, 1))
    with pytest.raises(DataError, match=r"\[1, 4, 4, 1\], the model takes \[1, 8, 8, 1\]"):
        feeds(checked(samples(), free), fixed)


def test_a_sample_may_be_a_whole_feed() -> None:
    table = TensorSpec(name="table", dtype="float32", shape=(3, 4))
    given = feeds(checked(np.ones((5, 3, 4), np.float32), table), table)
    assert [f["table"].shape for f in given] == [(3, 4)] * 5


def test_scalar_inputs_take_one_value_a_sample() -> None:
    scalar = TensorSpec(name="gain", dtype="float32", shape=())
    given = feeds(checked(np.arange(3, dtype=np.float32), scalar), scalar)
    assert [float(f["gain"]) for f in given] == [0.0, 1.0, 2.0]
    assert {np.shape(f["gain"]) for f in given} == {()}


def test_a_single_number_for_a_scalar_input_is_refused() -> None:
    scalar = TensorSpec(name="gain", dtype="float32", shape=())
    assert "gain" in refusal(np.array(1.0, np.float32), scalar)


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", image=np.array([{"a": 1}], dtype=object))
    assert "x.npz" in refusal(tmp_path / "x.npz")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert "none.npz: no such file" in refusal(tmp_path / "none.npz")
    with pytest.raises(DataError, match=r"none\.npz: no such file"):
        require_exists(tmp_path / "none.npz")


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_truncated_file_is_refused_at_every_length(tmp_path: Path, suffix: str) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npz":
        np.savez_compressed(whole, image=samples())
    else:
        np.save(whole, samples())
    data = whole.read_bytes()
    for length in range(0, len(data), 7):
        cut = tmp_path / f"cut{suffix}"
        cut.write_bytes(data[:length])
        assert "cut" in refusal(cut)


def test_a_flipped_byte_in_a_file_is_refused_or_harmless(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "whole.npz", image=samples())
    data = bytearray((tmp_path / "whole.npz").read_bytes())
    flipped = tmp_path / "flipped.npz"
    refused = 0
    for at in range(len(data)):
        changed = bytearray(data)
        changed[at] ^= 0xFF
        flipped.write_bytes(changed)
        try:
            checked(flipped)
        except DataError:
            refused += 1
    assert refused > len(data) // 2


def test_a_header_that_promises_terabytes_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", samples())
    data = (tmp_path / "x.npy").read_bytes()
    was, huge = b"(5, 4, 4, 1), }" + b" " * 12, b"(5000000000000, 4, 4, 1), }"
    assert was in data
    (tmp_path / "x.npy").write_bytes(data.replace(was, huge))
    assert "x.npy" in refusal(tmp_path / "x.npy")


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("readme.txt", "no array")
    assert "x.npz" in refusal(tmp_path / "x.npz")


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz")
    assert "no array" in refusal(tmp_path / "x.npz")


# Beyond what calibration data could do before


def test_an_integer_that_the_input_cannot_hold_is_named() -> None:
    small = TensorSpec(name="token", dtype="int8", shape=("batch", 2))
    said = refusal(np.array([[1, 2], [3, 300]], np.int64), small)
    assert "sample 1 holds 300 at [1], which int8 cannot hold" in said
    assert checked(np.array([[1, -128]], np.int64), small).inputs["token"].dtype == np.int8


def test_a_float_that_the_input_cannot_hold_is_named() -> None:
    x = samples().astype(np.float64)
    x[2, 0, 3, 0] = 1e300
    said = refusal(x)
    assert "sample 2 holds 1e+300 at [0, 3, 0], which float32 cannot hold" in said


@pytest.mark.parametrize("name", ["labels", "label", "y"])
def test_labels_are_the_array_of_that_name(tmp_path: Path, name: str) -> None:
    np.savez(tmp_path / "x.npz", image=samples(), **{name: np.arange(5)})
    pairs = list(checked(tmp_path / "x.npz", labelled=True).labelled([IMAGE]))
    assert [label.tolist() for _, label in pairs] == [[0], [1], [2], [3], [4]]
    assert np.array_equal(pairs[3][0]["image"], samples()[3:4])
    assert checked(tmp_path / "x.npz").labels is None


def test_an_input_called_y_is_no_label() -> None:
    y = TensorSpec(name="y", dtype="float32", shape=("batch", 1))
    data = {"image": samples(), "y": np.ones((5, 1), np.float32)}
    assert set(checked(data, IMAGE, y).inputs) == {"image", "y"}
    assert "labels" in refusal(data, IMAGE, y, labelled=True)


@pytest.mark.parametrize("suffix", ["npz", "npy"])
def test_missing_labels_are_asked_for_with_the_way_to_give_them(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    np.save(path, samples()) if suffix == "npy" else np.savez(path, image=samples())
    said = refusal(path, labelled=True)
    assert "has no labels" in said
    assert "np.savez(file, image=x, labels=y)" in said


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        (np.arange(4), "[4] for 5 samples"),
        (np.array(list("abcde")), "<U1"),
        (np.full(5, np.nan), "nan"),
    ],
)
def test_labels_that_are_not_one_number_a_sample_are_refused(labels: np.ndarray, word: str) -> None:
    assert word in refusal({"image": samples(), "labels": labels}, labelled=True)


def test_the_digest_sees_a_changed_label() -> None:
    one, other = (
        checked({"image": samples(), "labels": np.arange(5) + k}, labelled=True) for k in (0, 1)
    )
    assert one.digest != other.digest
    assert one.digest == checked({"image": samples(), "labels": np.arange(5)}, labelled=True).digest


def test_labels_go_with_their_batch() -> None:
    batched = TensorSpec(name="image", dtype="float32", shape=(2, 4, 4, 1))
    data = checked({"image": samples(), "labels": np.arange(5)}, labelled=True)
    assert [y.tolist() for _, y in data.labelled([batched])] == [[0, 1], [2, 3]]


def test_taken_samples_keep_their_labels_and_their_order() -> None:
    x = samples(10)
    data = checked({"image": x, "labels": np.arange(10)}, labelled=True)
    taken = data.take([7, 2, 2])
    assert len(taken) == 3
    assert [y.tolist() for _, y in taken.labelled([IMAGE])] == [[7], [2], [2]]
    assert np.array_equal(taken.inputs["image"][1:3], x[[2, 2]])
    assert np.asarray(data.first(3).labels[:]).tolist() == [0, 1, 2]
    assert np.asarray(data.spread(3).labels[:]).tolist() == [0, 3, 6]
    assert len(data.first(99)) == len(data.spread(99)) == 10


@pytest.mark.parametrize("count", [1, 3, 4, 50])
def test_spread_feeds_are_some_of_all_feeds(count: int) -> None:
    pairs = TensorSpec(name="image", dtype="float32", shape=(2, 4, 4, 1))
    data = checked(samples(21))
    every = feeds(data, pairs)
    expected = every[:: max(1, 10 // count)][:count]
    given = data.spread_feeds([pairs], count)
    assert len(given) == len(expected)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(given, expected, strict=True))


def test_what_was_taken_has_the_digest_of_the_same_data_given_alone() -> None:
    x = samples(10)
    assert checked(x).take([1, 3]).digest == checked(x[[1, 3]]).digest


def test_a_column_major_file_and_a_big_endian_one_are_the_same_data(tmp_path: Path) -> None:
    x = samples()
    np.save(tmp_path / "columns.npy", np.asfortranarray(x))
    np.save(tmp_path / "big.npy", x.astype(">f4"))
    files = [tmp_path / "columns.npy", tmp_path / "big.npy"]
    assert {checked(f).digest for f in files} == {checked(x).digest}


def test_a_file_is_told_from_its_content(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", samples())
    (tmp_path / "x.npy").rename(tmp_path / "data.bin")
    assert len(checked(tmp_path / "data.bin")) == 5


def test_a_file_that_shrinks_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", samples())
    data = checked(tmp_path / "x.npy")
    os.truncate(tmp_path / "x.npy", 128 + 3 * 64)
    with pytest.raises(DataError, match="ends inside sample 3"):
        feeds(data)


def test_calibration_and_evaluation_data_do_not_overwrite_each_other(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", image=samples())
    np.savez(tmp_path / "two.npz", image=samples() + 1)
    one, two = checked(tmp_path / "one.npz"), checked(tmp_path / "two.npz")
    assert np.array_equal(one.inputs["image"][:], samples())
    assert np.array_equal(two.inputs["image"][:], samples() + 1)


def test_samples_are_taken_as_they_are_and_checked_again() -> None:
    data = checked(samples())
    assert checked(data).digest == data.digest
    other = TensorSpec(name="image", dtype="float32", shape=("batch", 8, 8, 1))
    assert "[N, 8, 8, 1]" in refusal(data, other)


def test_preprocessing_of_arrays_is_refused() -> None:
    with pytest.raises(UsageError, match="preprocessing is for image files"):
        open_samples(samples(), specs=[IMAGE], folder=Path("spool"), preprocessing="tf")


def test_an_archive_larger_than_the_disk_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "x.npz", image=np.zeros((5, 4, 4, 1), np.float32))
    free = shutil._ntuple_diskusage(100, 0, 100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    assert "the disk has 100 free" in refusal(tmp_path / "x.npz")
