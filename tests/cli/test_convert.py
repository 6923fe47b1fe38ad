"""`edgepack convert`."""

from __future__ import annotations

import os
from pathlib import Path

import onnx
import pytest

from tests.cli.conftest import Command, content
from tests.models import free_size_model, two_input_model, write


def test_convert_writes_one_file_and_shows_its_edges(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command("convert", model, "-o", tmp_path / "new" / "made.onnx")
    assert done.code == 0
    assert os.listdir(tmp_path / "new") == ["made.onnx"]
    for part in ("opset 17", "image: float32 [batch, 8, 8, 1]", "parity", "probabilities"):
        assert part in done.out
    onnx.checker.check_model(onnx.load(tmp_path / "new" / "made.onnx"))


def test_convert_fills_in_what_is_given_and_leaves_the_rest_free(
    command: Command, tmp_path: Path
) -> None:
    source = write(free_size_model(), tmp_path / "free.onnx")
    done = command(
        "convert",
        source,
        "-o",
        tmp_path / "made.onnx",
        "--batch",
        "2",
        "--shape",
        "image=?x8x?x3",
        "--json",
    )
    assert done.json["inputs"][0]["shape"] == [2, 8, "width", 3]
    assert done.json["path"] == str(tmp_path / "made.onnx")


def test_convert_keeps_a_scalar_output_a_scalar(command: Command, tmp_path: Path) -> None:
    source = write(two_input_model(), tmp_path / "sum.onnx")
    done = command("convert", source, "-o", tmp_path / "made.onnx", "--json")
    assert done.json["outputs"][1]["shape"] == []


def test_convert_leaves_an_existing_file_unless_told_to_replace_it(
    command: Command, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "made.onnx").write_text("mine")
    before = content(tmp_path)
    done = command("convert", model, "-o", tmp_path / "made.onnx")
    assert done.code == 8
    assert "already there" in done.err
    assert content(tmp_path) == before
    assert command("convert", model, "-o", tmp_path / "made.onnx", "--overwrite").code == 0
    onnx.load(tmp_path / "made.onnx")


def test_convert_may_replace_its_own_source(command: Command, model: Path) -> None:
    assert command("convert", model, "-o", model, "--overwrite").code == 0
    assert onnx.load(model).producer_name == "edgepack"
    assert os.listdir(model.parent) == [model.name]


@pytest.mark.parametrize("name", ["shapes", "tensorflow.log", "made"])
def test_convert_writes_a_file_of_any_name(
    command: Command, model: Path, tmp_path: Path, name: str
) -> None:
    assert command("convert", model, "-o", tmp_path / name).code == 0
    onnx.load(tmp_path / name)
