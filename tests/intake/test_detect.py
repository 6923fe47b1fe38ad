"""What a file is, told from its content."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import random
import tarfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgepack.errors import ModelError
from edgepack.intake.detect import detect_format, framework_path
from tests.intake.hostile_files import hdf5, keras_archive, message
from tests.models import conv_model, write

_HDF5 = b"\x89HDF\r\n\x1a\n"
#: graph.proto: node { name: "x" op: "Placeholder" }, versions {}.
_GRAPH = message((1, message((1, b"x"), (2, b"Placeholder"))), (4, message((1, 1205))))
#: saved_model.proto: schema version 1, one MetaGraphDef with meta information and a graph.
_META = message((1, message((5, b"2.21.0"))), (2, _GRAPH))
_SAVED = message((1, 1), (2, _META))
_TABLE = bytes(40) + (0xDB4775248B80FB57).to_bytes(8, "little")


def refusal(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        detect_format(path)
    assert str(path) in caught.value.cause
    assert caught.value.fix
    return str(caught.value)


def holding(folder: Path, content: bytes | str, name: str = "model.bin") -> Path:
    folder.mkdir(exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(data)
    return folder / name


def zipped(folder: Path, *names: str) -> Path:
    with zipfile.ZipFile(folder / "model.zip", "w") as archive:
        for name in names:
            archive.writestr(name, b"content")
    return folder / "model.zip"


def checkpoint(folder: Path, *endings: str, state: str | None = None) -> Path:
    """The folder with the files of a checkpoint `model.ckpt-7`."""
    for ending in endings:
        content = {".index": _TABLE, ".meta": _META}.get(ending, b"weights")
        holding(folder, content, f"model.ckpt-7{ending}")
    if state is not None:
        holding(folder, f'model_checkpoint_path: "{state}"\n', "checkpoint")
    return folder


_WHOLE = (".index", ".meta", ".data-00000-of-00001")


# What is ours


@pytest.mark.parametrize(
    ("content", "format_"),
    [
        (_HDF5 + bytes(60), "keras-hdf5"),
        (_HDF5, "keras-hdf5"),
        (b"\x1c\0\0\0TFL3" + bytes(60), "tflite"),
        (_GRAPH, "graphdef"),
        (message((1, message((1, b"a" * 150), (2, b"Const"), (5, b"")))), "graphdef"),
        (b'node {\n  name: "x"\n  op: "Placeholder"\n}\n', "graphdef"),
        (b'# made by hand\nnode { name: "x" op: "Placeholder" }\n', "graphdef"),
        (b"\x08\x08\x12\x07pytorch", "onnx"),
    ],
)
def test_the_content_decides(tmp_path: Path, content: bytes, format_: str) -> None:
    for name in ("model.keras", "model.pb", "saved_model.txt"):
        assert detect_format(holding(tmp_path, content, name)) == format_


def test_the_name_does_not_matter(tmp_path: Path) -> None:
    assert detect_format(write(conv_model(), tmp_path / "model.keras")) == "onnx"
    assert detect_format(keras_archive(tmp_path).rename(tmp_path / "model.onnx")) == "keras"
    assert detect_format(hdf5(tmp_path, name="model.pb")) == "keras-hdf5"


def test_onnx_without_a_producer_or_with_its_fields_in_another_order_is_onnx(
    tmp_path: Path,
) -> None:
    proto = conv_model()
    proto.ClearField("producer_name")
    assert detect_format(write(proto, tmp_path / "a")) == "onnx"
    graph, opset = proto.graph.SerializeToString(), proto.opset_import[0].SerializeToString()
    assert detect_format(holding(tmp_path, message((8, opset), (7, graph), (1, 8)))) == "onnx"


@pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
def test_a_saved_model_is_its_folder_or_the_graph_in_it(tmp_path: Path, name: str) -> None:
    text = name.endswith("txt")
    inside = holding(tmp_path, "saved_model_schema_version: 1\n" if text else _SAVED, name)
    assert detect_format(tmp_path) == detect_format(inside) == "savedmodel"
    assert (
        framework_path(inside, "savedmodel") == framework_path(tmp_path, "savedmodel") == tmp_path
    )


def test_the_graph_of_a_saved_model_alone_asks_for_its_folder(tmp_path: Path) -> None:
    assert "give the folder" in refusal(holding(tmp_path, _SAVED, "model.pb"))


@pytest.mark.parametrize(
    "name", ["", "model.ckpt-7", *(f"model.ckpt-7{e}" for e in _WHOLE), "checkpoint"]
)
def test_a_checkpoint_is_its_folder_its_prefix_or_a_file_of_it(tmp_path: Path, name: str) -> None:
    checkpoint(tmp_path, *_WHOLE, state="model.ckpt-7")
    assert detect_format(tmp_path / name) == "checkpoint"
    assert framework_path(tmp_path / name, "checkpoint") == tmp_path / "model.ckpt-7.meta"


def test_a_checkpoint_without_its_text_file_is_found_if_it_is_alone(tmp_path: Path) -> None:
    checkpoint(tmp_path, *_WHOLE)
    assert framework_path(tmp_path, "checkpoint") == tmp_path / "model.ckpt-7.meta"
    holding(tmp_path, _TABLE, "other.index")
    assert "2 checkpoints (model.ckpt-7, other)" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["/home/somebody/run/model.ckpt-7", "C:\\\\run\\\\model.ckpt-7"])
def test_a_checkpoint_from_another_machine_is_found_by_its_name(tmp_path: Path, path: str) -> None:
    checkpoint(tmp_path, *_WHOLE, state=path)
    assert framework_path(tmp_path, "checkpoint") == tmp_path / "model.ckpt-7.meta"


def test_a_checkpoint_file_never_leads_out_of_its_folder(tmp_path: Path) -> None:
    checkpoint(tmp_path / "secret", *_WHOLE)
    here = checkpoint(tmp_path / "here", state="../secret/model.ckpt-7")
    assert "not in its folder" in refusal(here)


@pytest.mark.parametrize(
    ("endings", "words"),
    [
        ((".index", ".data-00000-of-00001"), "model.ckpt-7.meta is missing"),
        ((".meta",), "weights are missing (model.ckpt-7.index)"),
        ((".meta", ".index"), "lacks model.ckpt-7.data-00000-of-00001"),
        ((".meta", ".index", ".data-00001-of-00002"), "lacks model.ckpt-7.data-00000-of-00002"),
    ],
)
def test_an_incomplete_checkpoint_says_what_is_missing(
    tmp_path: Path, endings: tuple[str, ...], words: str
) -> None:
    checkpoint(tmp_path, *endings)
    assert words in refusal(tmp_path / "model.ckpt-7")


# What is not


@pytest.mark.parametrize(
    ("content", "looks", "remedy"),
    [
        (b"", "is empty", "export"),
        (b"\x18\0\0\0ORTM" + bytes(60), "ORT-format", "made from"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "PyTorch", "torch.onnx.export"),
        (pickle.dumps({"a": [1, 2]}), "pickle", "torch.onnx.export"),
        ((40).to_bytes(8, "little") + b'{"a":{"dtype":"F32"}}', "safetensors", "architecture"),
        (b"GGUF\x03\0\0\0" + bytes(40), "GGUF", "original"),
        (b"ptrt\0\0\0\0" + bytes(40), "TensorRT", "made from"),
        (b"ftrt\0\0\0\0" + bytes(40), "TensorRT", "made from"),
        (gzip.compress(b"model", mtime=0), "gzip", "unpack"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page", "download"),
        (b"\n<html lang=en>", "web page", "download"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull"),
        (json.dumps({"format": "layers-model", "modelTopology": {}}), "TensorFlow.js", "convert"),
        (json.dumps({"class_name": "Functional", "config": {}}), "without weights", "model.save"),
        ('<?xml version="1.0"?>\n<net name="a" version="11">', "OpenVINO", "made from"),
        (message((1, 7), (2, message((1, b"in"))), (500, b"layers")), "CoreML", "made from"),
        (message((1, b"net"), (100, b"layer")), "Caffe", "made from"),
        ('name: "net"\nlayer {\n  name: "conv"\n}', "Caffe", "made from"),
        (message((1, 3), (2, 1), (9, bytes(12))), "single ONNX tensor", ".onnx"),
        ("meta_info_def {\n}\n", "MetaGraph", ".meta"),
        ("hello\n", "content is text", "formats:"),
        ("Grüße", "content is text", "formats:"),
        (b"a" + "ü".encode() * 3000, "content is text", "formats:"),
        (b"PK\x03\x04" + bytes(60), "cut short", "copy or save"),
    ],
)  # fmt: skip
def test_what_is_not_ours_is_named_with_its_remedy(
    tmp_path: Path, content: bytes | str, looks: str, remedy: str
) -> None:
    said = refusal(holding(tmp_path, content))
    assert looks in said
    assert remedy in said


@pytest.mark.parametrize(
    ("names", "looks"),
    [
        (("model/data.pkl", "model/data/0"), "PyTorch"),
        (("m/data.pkl", "m/constants.pkl", "m/code/a.py"), "TorchScript"),
        (("a.npy", "b.npy"), "NumPy"),
        (("detector.tflite", "labels.txt"), "zip archive with detector.tflite"),
        (("saved/saved_model.pb",), "zip archive with saved/saved_model.pb"),
        (("m.mlpackage/Manifest.json",), "CoreML"),
        (("config.json", "model.weights.h5"), "without metadata.json"),
        (("a.txt",), "without a model"),
    ],
)
def test_zip_archives_are_told_by_their_entries(
    tmp_path: Path, names: tuple[str, ...], looks: str
) -> None:
    assert looks in refusal(zipped(tmp_path, *names))


def test_a_tar_archive_asks_to_be_unpacked(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "model.pb", "w") as archive:
        archive.addfile(tarfile.TarInfo("saved_model.pb"), io.BytesIO())
    assert "tar archive" in refusal(tmp_path / "model.pb")


def test_calibration_data_given_as_a_model_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(3))
    np.savez(tmp_path / "a.npz", np.zeros(3))
    assert "--calibration" in refusal(tmp_path / "a.npy")
    assert "--calibration" in refusal(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("inside", "words"),
    [
        ((), "empty folder"),
        (("notes.txt",), "folder without saved_model.pb"),
        (("1/saved_model.pb",), "give {folder}/1"),
        (("a.keras", "b.txt"), "give {folder}/a.keras"),
        (("model.json", "group1-shard1of1.bin"), "TensorFlow.js"),
        (("Manifest.json", "Data/model.mlmodel"), "CoreML package"),
        (("config.json", "metadata.json", "model.weights.h5"), "zip -0"),
        (("variables/variables.index",), "lost its saved_model.pb"),
    ],
)
def test_folders_are_told_by_what_is_in_them(
    tmp_path: Path, inside: tuple[str, ...], words: str
) -> None:
    for name in inside:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"content")
    assert words.format(folder=tmp_path) in refusal(tmp_path)


def test_nothing_there_is_said(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.onnx")


@pytest.mark.parametrize("length", [1, 3, 7, 64, 4096])
def test_random_bytes_are_no_model(tmp_path: Path, length: int) -> None:
    content = b"\xff" + random.Random(length).randbytes(length - 1)
    assert "no model format that is known" in refusal(holding(tmp_path, content))


def test_no_bytes_make_detection_fall_over(tmp_path: Path) -> None:
    rng = random.Random(0)
    told: set[str] = set()
    for first in (b"\n", b"\x08", b"\x12", b"PK\x03\x04", b"", b"\x08\x08:"):
        for _ in range(30):
            path = holding(tmp_path, first + rng.randbytes(rng.randrange(200)))
            # Anything but a ModelError fails the test.
            with suppress(ModelError):
                told.add(detect_format(path))
    assert told <= {"onnx", "graphdef"}


def test_a_huge_file_is_told_at_once(tmp_path: Path) -> None:
    path = holding(tmp_path, b"\x08\x08:" + b"\xff\xff\xff\xff\x07")
    with path.open("r+b") as file:
        file.truncate(1 << 35)
    begun = time.process_time()
    assert detect_format(path) == "onnx"
    assert time.process_time() - begun < 0.1


def test_a_file_that_cannot_be_read_is_the_models_fault(tmp_path: Path) -> None:
    # A file that root cannot read either; link it, so that the name is our own.
    unreadable = Path("/proc/self/mem")
    if not unreadable.exists():
        pytest.skip("this system has no /proc")
    (tmp_path / "model.onnx").symlink_to(unreadable)
    refusal(tmp_path / "model.onnx")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "model.onnx")
    assert "a device or a pipe" in refusal(tmp_path / "model.onnx")
