"""A bitmap becomes the input that calibration saw: Android's own Bitmap and the loader against Pillow and edgepack's samples."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgepack.artifact import TensorSpec
from edgepack.bundle.preprocessing import settled
from edgepack.samples.frame import frame_for
from edgepack.samples.images import decoded
from edgepack.samples.preprocessing import Preprocessing
from tests.device.kotlin.bundles import Copy, set_at
from tests.device.kotlin.jvm import Jvm, LoaderError


def noise(width: int, height: int) -> Image.Image:
    """Coarse noise under fine noise: resizing has something to average."""
    rng = np.random.default_rng(width * height)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((width, height))
    fine = rng.integers(-40, 40, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + fine, 0, 255).astype(np.uint8))


def both(
    jvm: Jvm, copy: Copy, place: Path, picture: Image.Image, spec: TensorSpec, **keys: Any
) -> tuple[np.ndarray, np.ndarray]:
    """What edgepack makes of the picture for calibration, and what the loader makes of it."""
    picture.save(place / "picture.png")
    frame = frame_for(spec, Preprocessing(**keys), "test")
    wanted = frame.values(decoded(place / "picture.png", frame))
    image = settled(frame).model_dump(mode="json")
    told = {"name": spec.name, "dtype": spec.dtype, "shape": spec.shape, "preprocessing": image}
    bundle = copy("conv-onnx").edit(set_at("inputs", [told]))
    pixels = np.asarray(picture.convert("RGBA"))[:, :, [3, 0, 1, 2]]
    argb = base64.b64encode(np.ascontiguousarray(pixels).tobytes()).decode()
    answer = jvm.ask("image", bundle=bundle, argb=argb, width=picture.width)
    found = np.frombuffer(base64.b64decode(answer["data"]), answer["dtype"])
    assert answer["shape"] == [d if isinstance(d, int) else 1 for d in spec.shape]
    return wanted[None], found.reshape(answer["shape"])


def spec(*shape: int | str, dtype: str = "uint8") -> TensorSpec:
    return TensorSpec(name="image", dtype=dtype, shape=shape)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "area", "lanczos"])
@pytest.mark.parametrize(
    "size",
    [(97, 41), (9, 7), (24, 18), (26, 90), (1, 60)],
    ids=["shrinks", "grows", "as it is", "high", "a line"],
)
def test_resizing_is_pillows_within_one_level(
    jvm: Jvm, copy: Copy, tmp_path: Path, interpolation: str, size: tuple[int, int]
) -> None:
    target = spec("batch", 18, 24, 3)
    wanted, found = both(jvm, copy, tmp_path, noise(*size), target, interpolation=interpolation)
    off = np.abs(wanted.astype(int) - found)
    assert off.max() <= 1
    # Pillow computes in integers; where an average ends in ½, it may round the other way.
    assert (off > 0).mean() < 0.04


@pytest.mark.parametrize(
    "keys",
    [
        {"resize": "crop"},
        {"resize": "crop", "shorter_side": 29},
        {"resize": "letterbox", "pad": (10, 20, 200)},
    ],
    ids=lambda keys: "-".join(keys),
)
@pytest.mark.parametrize("size", [(61, 40), (40, 61), (23, 22)])
def test_what_is_cut_off_and_padded_is_the_same(
    jvm: Jvm, copy: Copy, tmp_path: Path, keys: dict[str, Any], size: tuple[int, int]
) -> None:
    wanted, found = both(jvm, copy, tmp_path, noise(*size), spec(1, 21, 23, 3), **keys)
    assert np.abs(wanted.astype(int) - found).max() <= 1


@pytest.mark.parametrize(
    ("target", "keys"),
    [
        (
            spec(1, 3, 18, 24, dtype="float32"),
            {"scale": 1 / 255, "mean": (0.4, 0.5, 0.6), "std": 0.2},
        ),
        (
            spec(1, 18, 24, 3, dtype="float32"),
            {"channels": "bgr", "mean": (103.939, 116.779, 123.68)},
        ),
        (spec(1, 18, 24, 3, dtype="float16"), {"scale": 1 / 127.5, "mean": 1.0}),
        (spec(1, 18, 24, 1, dtype="float32"), {"scale": 1 / 255}),
        (spec("batch", 18, 24, dtype="float32"), {"scale": 1 / 255}),
        (spec(1, 18, 24, 4, dtype="float32"), {"scale": 1 / 255}),
        (spec(1, 18, 24, 3, dtype="int8"), {"mean": 128.0}),
    ],
    ids=["nchw", "bgr", "float16", "gray", "no channels", "rgba", "int8"],
)
def test_values_layout_and_channel_order_are_bit_for_bit_those_of_calibration(
    jvm: Jvm, copy: Copy, tmp_path: Path, target: TensorSpec, keys: dict[str, Any]
) -> None:
    """At the frame's own size nothing is resized, so nothing is rounded."""
    wanted, found = both(jvm, copy, tmp_path, noise(24, 18), target, **keys)
    assert found.dtype == wanted.dtype
    np.testing.assert_array_equal(found, wanted.reshape(found.shape))


def test_gray_padding_is_the_mean_of_the_three(jvm: Jvm, copy: Copy, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"resize": "letterbox", "pad": (10, 20, 200)}
    wanted, found = both(jvm, copy, tmp_path, noise(40, 10), spec(1, 18, 24, 1), **keys)
    assert found[0, 0, 0, 0] == wanted[0, 0, 0, 0] == 77


def test_a_manifest_that_does_not_tell_how_is_an_error(jvm: Jvm, samples: Path) -> None:
    with pytest.raises(LoaderError, match="preprocessing is null") as error:
        jvm.ask("image", bundle=samples / "conv-ort", argb="AAAAAA==", width=1)
    assert error.value.kind == "manifest-invalid"
