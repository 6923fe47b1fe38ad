"""What a file is, told from its content."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from edgepack.errors import ModelError
from edgepack.intake.source import detect_format
from tests.models import conv_model, write

_ZIP, _HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        detect_format(path)
    assert str(path) in caught.value.cause
    return str(caught.value)


def holding(folder: Path, content: bytes, name: str = "model.onnx") -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    assert detect_format(write(conv_model(), tmp_path / "model.keras")) == "onnx"
    assert detect_format(holding(tmp_path, _ZIP + bytes(60), "model.onnx")) == "keras"
    assert detect_format(holding(tmp_path, _HDF5 + bytes(60), "model.pb")) == "keras-hdf5"


def test_a_file_cut_after_its_magic_is_left_to_its_reader(tmp_path: Path) -> None:
    assert detect_format(holding(tmp_path, _ZIP)) == "keras"
    assert detect_format(holding(tmp_path, _HDF5)) == "keras-hdf5"


def test_a_saved_model_is_a_folder_with_its_graph(tmp_path: Path) -> None:
    assert "saved_model.pb" in refusal(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    assert detect_format(tmp_path) == "savedmodel"


def test_nothing_there_is_said(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx")


def test_an_empty_file_is_said(tmp_path: Path) -> None:
    assert "is empty" in refusal(holding(tmp_path, b""))


@pytest.mark.parametrize("text", ["hello\n", "version https://git-lfs.github.com/spec/v1", "Grüße"])
def test_text_is_called_text(tmp_path: Path, text: str) -> None:
    assert "its content is text" in refusal(holding(tmp_path, text.encode()))


def test_text_is_called_text_where_a_letter_is_cut_in_two(tmp_path: Path) -> None:
    assert "its content is text" in refusal(holding(tmp_path, b"a" + "ü".encode() * 100))


def test_tflite_and_ort_are_told_apart_from_junk(tmp_path: Path) -> None:
    assert "TFLite" in refusal(holding(tmp_path, b"\x1c\0\0\0TFL3" + bytes(60)))
    assert "ORT-format" in refusal(holding(tmp_path, b"\x18\0\0\0ORTM" + bytes(60)))


@pytest.mark.parametrize("length", [1, 3, 7, 64, 4096])
def test_random_bytes_are_no_model(tmp_path: Path, length: int) -> None:
    content = b"\xff" + random.Random(length).randbytes(length - 1)
    assert "no model format that is known" in refusal(holding(tmp_path, content))


def test_a_file_that_cannot_be_read_is_the_models_fault(tmp_path: Path) -> None:
    # A file that root cannot read either; link it, so that the name is our own.
    unreadable = Path("/proc/self/mem")
    if not unreadable.exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "model.onnx").symlink_to(unreadable)
    refusal(tmp_path / "model.onnx")
