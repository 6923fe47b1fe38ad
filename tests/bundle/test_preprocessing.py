"""How an image becomes an input: in the manifest just as calibration saw it, and nothing where nobody said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgepack
from edgepack.artifact import TensorSpec
from edgepack.bundle.manifest import Manifest, Tensor
from edgepack.bundle.preprocessing import settled
from edgepack.errors import DataError, UsageError
from edgepack.samples.frame import frame_for
from edgepack.samples.preprocessing import Preprocessing, as_preprocessing
from tests.models import conv_model, images, two_input_model, write


def spec(*shape: int | str) -> TensorSpec:
    return TensorSpec(name="image", dtype="float32", shape=shape)


def in_manifest(target: TensorSpec, **keys: Any) -> dict[str, Any]:
    """What a manifest says for an input under this preprocessing."""
    image = settled(frame_for(target, Preprocessing(**keys), "test"))
    tensor = Tensor(name="x", dtype="float32", shape=target.shape, preprocessing=image)
    return dict(tensor.model_dump(mode="json")["preprocessing"])


def test_a_preset_is_written_out_with_nothing_open() -> None:
    frame = frame_for(spec(1, 3, 224, 200), as_preprocessing("torch"), "test")
    assert settled(frame).model_dump() == {
        "height": 224,
        "width": 200,
        "resize": "stretch",
        "interpolation": "bilinear",
        "channels": "rgb",
        "layout": "nchw",
        "scale": 1 / 255,
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "pad": (0, 0, 0),
    }


def test_one_number_counts_for_every_channel_and_a_free_size_is_the_one_given() -> None:
    image = in_manifest(
        spec(1, "height", "width", 3),
        size=(4, 5),
        mean=2.0,
        pad=114,
        channels="bgr",
        interpolation="box",
        resize="crop",
        shorter_side=6,
    )
    assert (image["height"], image["width"], image["shorter_side"]) == (4, 5, 6)
    assert (image["mean"], image["std"], image["pad"]) == ([2.0] * 3, [1.0] * 3, [114] * 3)
    assert (image["channels"], image["layout"], image["interpolation"]) == ("bgr", "nhwc", "area")
    assert in_manifest(spec(1, 28, 28))["layout"] == "hw"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The manifest of a bundle whose preprocessing was given, without any data."""
    folder = tmp_path_factory.mktemp("told")
    (result,) = edgepack.build(
        write(conv_model(), folder / "tiny.onnx"),
        targets=["web"],
        preprocessing={"scale": "1/255", "resize": "letterbox"},
        output_dir=folder,
    )
    manifest: dict[str, Any] = json.loads((result.bundle / "manifest.json").read_bytes())
    return manifest


def test_preprocessing_reaches_the_manifest_without_calibration_data(told: dict[str, Any]) -> None:
    image = told["inputs"][0]["preprocessing"]
    assert (image["resize"], image["scale"]) == ("letterbox", 1 / 255)
    sizes = {image["height"], image["width"], len(image["mean"])}
    assert sizes <= set(told["inputs"][0]["shape"])
    assert "preprocessing" not in told["outputs"][0]


def test_a_manifest_without_it_has_no_empty_field_and_one_with_it_reads_back(
    told: dict[str, Any],
) -> None:
    text = json.dumps(told).encode()
    manifest = Manifest.from_json(text, place=Path("manifest.json"))
    assert json.loads(manifest.to_json()) == told
    del told["inputs"][0]["preprocessing"]
    old = Manifest.from_json(json.dumps(told).encode(), place=Path("manifest.json"))
    assert json.loads(old.to_json()) == told


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("height", 0),
        ("height", "16"),
        ("resize", "squash"),
        ("interpolation", "box"),
        ("channels", "rgbx"),
        ("layout", "hw"),
        ("scale", None),
        ("mean", [0.0, 0.0]),
        ("std", [1.0, 0.0, 1.0]),
        ("pad", [0, 0, 256]),
        ("shorter_side", 8),
        ("gamma", 2.2),
    ],
)
def test_what_a_loader_could_not_do_is_refused_by_name(key: str, value: object) -> None:
    image = in_manifest(spec(1, 16, 16, 3)) | {key: value}
    tensor = {"name": "x", "dtype": "float32", "shape": [1, 16, 16, 3], "preprocessing": image}
    with pytest.raises(ValueError, match=r"preprocessing"):
        Tensor.model_validate(tensor)


def told_beside(data: object, folder: Path, way: object = "unit") -> dict[str, Any]:
    """What the manifest says of the preprocessing that was given beside arrays."""
    (result,) = edgepack.build(
        write(conv_model(), folder / "tiny.onnx"),
        targets=["web"],
        precision="fp32",
        calibration=data,
        preprocessing=way,
        output_dir=folder / "out",
    )
    manifest = json.loads((result.bundle / "manifest.json").read_bytes())
    preprocessing: dict[str, Any] = manifest["inputs"][0]["preprocessing"]
    return preprocessing


def test_arrays_are_taken_as_preprocessed_and_loaders_are_told_how(tmp_path: Path) -> None:
    made = np.random.default_rng(0).random((8, *images(1).shape[1:])).astype(np.float32)
    np.savez(tmp_path / "made.npz", image=made)
    assert told_beside(tmp_path / "made.npz", tmp_path)["scale"] == 1 / 255


def test_noise_is_no_image_and_held_against_nothing(tmp_path: Path) -> None:
    assert told_beside("random", tmp_path, {"mean": 1000.0})["mean"] == [1000.0]


@pytest.mark.parametrize(("factor", "offset"), [(255, 0), (2, -1)], ids=["raw pixels", "tf"])
def test_arrays_that_the_preprocessing_cannot_give_are_refused(
    tmp_path: Path, factor: float, offset: float
) -> None:
    made = np.random.default_rng(0).random((8, *images(1).shape[1:])).astype(np.float32)
    with pytest.raises(
        DataError, match=r"values from .*; the preprocessing given takes pixels to 0 … 1"
    ):
        told_beside(made * factor + offset, tmp_path)
    assert not list(tmp_path.glob("out/*"))


def test_preprocessing_of_what_is_no_image_is_refused_before_anything_is_built(
    tmp_path: Path,
) -> None:
    two = write(two_input_model(), tmp_path / "two.onnx")
    with pytest.raises(UsageError, match="the model has 2 inputs"):
        edgepack.build(two, targets=["web"], preprocessing="unit", output_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
