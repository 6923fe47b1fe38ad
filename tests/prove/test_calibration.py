"""Calibration data: what is taken, and what is refused with which words."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.prove.calibration import Calibration, as_calibration

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 4, 4, 1))
LENGTH = TensorSpec(name="length", dtype="int64", shape=("batch", 1))


def samples(count: int = 5) -> np.ndarray:
    return np.random.default_rng(0).random((count, 4, 4, 1)).astype(np.float32)


def checked(data: object, *specs: TensorSpec) -> Calibration:
    calibration = as_calibration(data)
    assert calibration is not None
    return calibration.checked(specs or (IMAGE,))


def refusal(data: object, *specs: TensorSpec) -> str:
    with pytest.raises(DataError) as caught:
        checked(data, *specs)
    return str(caught.value)


def feeds(calibration: Calibration, *specs: TensorSpec) -> list[dict[str, np.ndarray]]:
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


def test_no_data_is_none_and_another_type_is_refused() -> None:
    assert as_calibration(None) is None
    with pytest.raises(UsageError, match="int"):
        as_calibration(7)


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
    assert "no such file" in refusal(tmp_path / "none.npz")
    assert "no such file" in refusal(tmp_path)


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
