"""An image becomes the same input on the phone as in calibration.

To the bit, with Pillow 13: it begins with the height where that shrinks by far the more, and what is rounded (and, by filters that
overshoot, cut off) in between is then another pixel's. Older Pillows never do.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgepack.artifact import TensorSpec
from edgepack.bundle.preprocessing import settled
from edgepack.samples.frame import Frame, frame_for
from edgepack.samples.images import decoded
from edgepack.samples.preprocessing import Preprocessing
from tests.bundle_samples import seal
from tests.device.swift.linux import add_loader, build, swift_calls

SIZES = (
    (40, 64),
    (5, 7),
    (8, 8),
    (8, 33),
    (1, 1),
    (199, 301),
    (33, 8),
    (301, 199),
    (47, 31),
    (46, 31),
    (60, 1),
)
WAYS: dict[str, dict[str, Any]] = {
    "stretch": {},
    "nearest": {"interpolation": "nearest"},
    "area": {"interpolation": "area"},
    "bicubic": {"interpolation": "bicubic"},
    "lanczos": {"interpolation": "lanczos", "resize": "letterbox", "pad": (3, 100, 250)},
    "letterbox": {"resize": "letterbox", "pad": (10, 20, 30)},
    "crop": {"resize": "crop"},
    "crop by the shorter side": {"resize": "crop", "shorter_side": 19},
    "bgr": {"channels": "bgr", "scale": 1 / 255, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)},
    "frame wider than high": {"size": (9, 31), "resize": "crop"},
}


@pytest.fixture(scope="module")
def bundle(samples: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("images") / "conv-onnx"
    shutil.copytree(samples / "conv-onnx", place)
    add_loader(place)
    return place


@pytest.fixture(scope="module")
def programs(bundle: Path) -> Path:
    return build(bundle)


def tell(bundle: Path, frame: Frame, spec: TensorSpec) -> None:
    """Let the manifest say how an image becomes the input."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest["inputs"] = [
        {
            "name": "image",
            "dtype": spec.dtype,
            "shape": list(spec.shape),
            "preprocessing": settled(frame).model_dump(mode="json"),
        }
    ]
    seal(bundle, manifest)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    noise = [rng.integers(0, 256, (h, w, 4), dtype=np.uint8) for h, w in SIZES]
    for x in noise:
        x[:, :, 3] = 255
    return noise


def expected(frame: Frame, picture: np.ndarray, folder: Path) -> np.ndarray:
    """What calibration makes of the same pixels, out of a file."""
    path = folder / "picture.png"
    Image.fromarray(picture).save(path)
    return np.asarray(frame.values(decoded(path, frame)))[None]


def require_equal(
    bundle: Path, programs: Path, spec: TensorSpec, way: dict[str, Any], folder: Path
) -> None:
    frame = frame_for(spec, Preprocessing(**way), "test")
    tell(bundle, frame, spec)
    answers = swift_calls(bundle, images=pictures(), programs=programs)["images"]
    for picture, answer in zip(pictures(), answers, strict=True):
        wanted = expected(frame, picture, folder)
        np.testing.assert_array_equal(answer["image"], wanted, err_msg=str(picture.shape))
        assert answer["image"].dtype == wanted.dtype


@pytest.mark.parametrize("name", WAYS)
def test_an_image_is_resized_as_pillow_does(
    name: str, bundle: Path, programs: Path, tmp_path: Path
) -> None:
    spec = TensorSpec(name="image", dtype="float32", shape=(1, "height", "width", 3))
    require_equal(bundle, programs, spec, {"size": 16, **WAYS[name]}, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "shape", "way"),
    [
        ("uint8", (1, 16, 12, 3), {}),
        ("int8", (1, 16, 12, 3), {"mean": 128.0}),
        ("float32", (1, 3, 16, 12), {"scale": 1 / 127.5, "mean": 1.0}),
        ("float32", (1, 16, 12, 1), {"scale": 1 / 255}),
        ("float32", (1, 16, 12), {"resize": "letterbox", "pad": (1, 2, 4)}),
        ("float32", ("batch", 16, 16, 4), {"interpolation": "nearest"}),
    ],
)
def test_values_take_the_inputs_dtype_and_layout(
    dtype: str, shape: Any, way: dict[str, Any], bundle: Path, programs: Path, tmp_path: Path
) -> None:
    spec = TensorSpec(name="image", dtype=dtype, shape=shape)
    require_equal(bundle, programs, spec, way, tmp_path)


def test_images_that_cannot_become_the_input_are_refused(
    bundle: Path, samples: Path, programs: Path
) -> None:
    spec = TensorSpec(name="image", dtype="float32", shape=(1, 16, 12, 3))
    tell(bundle, frame_for(spec, Preprocessing(), "test"), spec)
    empty = np.zeros((0, 4, 4), np.uint8)
    (answer,) = swift_calls(bundle, images=[empty], programs=programs)["images"]
    assert answer["error"]["kind"] == "shape-mismatch"
    (answer,) = swift_calls(samples / "conv-onnx", images=pictures()[:1], programs=programs)[
        "images"
    ]
    assert answer["error"]["kind"] == "manifest-invalid"
    assert "does not say how an image becomes an input" in answer["error"]["message"]
