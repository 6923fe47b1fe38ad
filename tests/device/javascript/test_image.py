"""demo/image.mjs against Pillow, which calibration uses: the same pixels, within one level."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgepack.artifact import TensorSpec
from edgepack.bundle.preprocessing import settled
from edgepack.samples.frame import frame_for
from edgepack.samples.images import decoded
from edgepack.samples.preprocessing import Preprocessing

WAYS = [
    {"interpolation": name} for name in ("bilinear", "bicubic", "nearest", "area", "lanczos")
] + [
    {"resize": "crop"},
    {"resize": "crop", "shorter_side": 30, "channels": "bgr"},
    {"resize": "letterbox", "pad": (10, 200, 30)},
    {"resize": "letterbox", "pad": (10, 200, 30), "channels": "gray"},
    {"channels": "gray"},
    {"scale": 1 / 255, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)},
]


@pytest.mark.parametrize("way", WAYS, ids=str)
@pytest.mark.parametrize(
    "size", [(61, 47), (70, 90), (17, 13), (24, 20), (26, 90), (1, 60)], ids=str
)
@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
def test_pixels_are_those_of_pillow(conv, node, tmp_path, way, size, layout):
    path = _picture(tmp_path / "picture.png", size)
    preprocessing = Preprocessing(**way)
    channels = 1 if way.get("channels") == "gray" else 3
    shape = (1, 20, 24, channels) if layout == "nhwc" else (1, channels, 20, 24)
    spec = TensorSpec(name="image", dtype="float32", shape=shape)
    frame = frame_for(spec, preprocessing, "test")
    levels = decoded(path, frame).reshape(20, 24, channels).astype(np.float64)
    told = settled(frame)
    levels = levels[..., ::-1] if told.channels == "bgr" else levels
    expected = (levels * told.scale - told.mean) / told.std
    expected = expected if layout == "nhwc" else expected.transpose(2, 0, 1)
    got = _preprocessed(conv, node, path, spec, told)
    one_level = told.scale / min(told.std) * 1.001
    np.testing.assert_allclose(got.reshape(expected.shape), expected, rtol=0, atol=one_level)
    # Pillow computes in integers; where an average ends in ½, as a ninth do in 20 → 30 pixels, it may round the other way.
    assert np.mean(np.abs(got.reshape(expected.shape) - expected)) < 0.15 * one_level


def test_image_too_small_for_its_crop_is_refused(conv, node, tmp_path):
    path = _picture(tmp_path / "picture.png", (61, 47))
    spec = TensorSpec(name="image", dtype="float32", shape=(1, 20, 24, 3))
    told = settled(frame_for(spec, Preprocessing(resize="crop", shorter_side=10), "test"))
    with pytest.raises(AssertionError, match="smaller than what is to be cut out"):
        _preprocessed(conv, node, path, spec, told)


def _picture(path: Path, size: tuple[int, int]) -> Path:
    rng = np.random.default_rng(5)
    small = rng.integers(0, 256, (9, 7, 3), np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def _preprocessed(conv, node, path, spec, told) -> np.ndarray:
    image = Image.open(path).convert("RGBA")
    declared = {"name": "image", "dtype": spec.dtype, "shape": list(spec.shape)}
    declared["preprocessing"] = told.model_dump(mode="json")
    pixels = np.asarray(image).ravel().tolist()
    return np.array(
        node.value(
            conv.root,
            f"""const {{ preprocess }} = await import(`${{folder}}/demo/image.mjs`);
            const pixels = {{ data: Uint8ClampedArray.from({pixels}), width: {image.width}, height: {image.height} }};
            return Array.from(preprocess(pixels, {json.dumps(declared)}).data);""",
        )
    )
