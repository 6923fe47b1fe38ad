"""From pixels to the model's input: presets against Keras' own functions, sizes, layouts, and what is refused."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, UsageError
from edgepack.samples.frame import frame_for
from edgepack.samples.images import decoded
from edgepack.samples.preprocessing import Preprocessing, as_preprocessing, preset_list, presets
from tests.samples.pictures import BYTES, PHOTO, draw, photographs, pixels

FIRST = TensorSpec(name="image", dtype="float32", shape=("batch", 3, 224, 224))


def spec(*shape: int | str, dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name="image", dtype=dtype, shape=shape)


def made(path: Path, target: TensorSpec, **keys: Any) -> np.ndarray:
    frame = frame_for(target, Preprocessing(**keys), "test")
    return np.asarray(frame.values(decoded(path, frame)))


def keras_function() -> Callable[..., np.ndarray]:
    """Keras' `_preprocess_numpy_input`, taken out of its file: importing Keras would import TensorFlow."""
    found = importlib.util.find_spec("keras")
    assert found is not None
    assert found.origin is not None
    path = Path(found.origin).parent / "src" / "applications" / "imagenet_utils.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    (function,) = (
        n
        for n in tree.body
        if isinstance(n, ast.FunctionDef) and n.name == "_preprocess_numpy_input"
    )
    scope: dict[str, Any] = {"np": np, "backend": SimpleNamespace(floatx=lambda: "float32")}
    exec(compile(ast.Module([function], []), str(path), "exec"), scope)
    return scope["_preprocess_numpy_input"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("target", [PHOTO, FIRST], ids=["nhwc", "nchw"])
@pytest.mark.parametrize("mode", ["tf", "caffe", "torch"])
@pytest.mark.parametrize("photo", photographs(), ids=lambda p: p.stem)
def test_a_preset_gives_what_keras_gives_on_a_photograph(
    photo: Path, mode: str, target: TensorSpec
) -> None:
    with Image.open(photo) as image:
        raw = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR), np.float64)
    first = target is FIRST
    keras = keras_function()(
        (raw.transpose(2, 0, 1) if first else raw).copy(),
        data_format="channels_first" if first else "channels_last",
        mode=mode,
    )
    frame = frame_for(target, as_preprocessing(mode), "test")
    ours = frame.values(decoded(photo, frame))
    assert ours.shape == keras.shape == target.shape[1:]
    assert ours.dtype == np.float32
    # Keras' formula in float64; ours is within float32's rounding of it.
    assert np.allclose(ours, keras, rtol=1e-6, atol=1e-6)


def test_unit_and_raw_are_what_their_names_say(tmp_path: Path) -> None:
    path = draw(tmp_path / "x.png")
    target = spec("batch", 5, 6, 3)
    for name, expected in (("unit", pixels() / 255), ("raw", pixels())):
        frame = frame_for(target, as_preprocessing(name), "test")
        assert np.abs(frame.values(decoded(path, frame)) - expected).max() <= 1e-6


def test_every_preset_says_what_it_is_for_and_where_it_is_from() -> None:
    assert set(presets()) == {"tf", "caffe", "torch", "unit", "raw"}
    assert all(presets().values())
    assert "caffe (BGR" in preset_list()


def test_bytes_go_in_as_they_are_without_preprocessing(tmp_path: Path) -> None:
    frame = frame_for(BYTES, None, "test")
    x = frame.values(decoded(draw(tmp_path / "x.png"), frame))
    assert x.dtype == np.uint8
    assert np.array_equal(x, pixels())


def test_floats_without_preprocessing_are_refused_and_the_presets_listed() -> None:
    with pytest.raises(UsageError) as caught:
        frame_for(PHOTO, None, "pictures")
    assert all(name in str(caught.value) for name in presets())
    assert "pictures" in str(caught.value)


# Sizes


def test_a_crop_cuts_the_middle_of_what_covers_it(tmp_path: Path) -> None:
    x = pixels(5, 11)
    path = draw(tmp_path / "x.png", x)
    assert np.array_equal(made(path, spec("n", 5, 5, 3), resize="crop"), x[:, 3:8])
    cut = made(path, spec("n", 2, 2, 3), resize="crop", shorter_side=5)
    assert np.array_equal(cut, x[2:4, 5:7])


def test_a_crop_larger_than_the_shorter_side_is_refused(tmp_path: Path) -> None:
    path = draw(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"x\.png: 6×5 pixels .* 6×6 cannot be cut out"):
        made(path, spec("n", 6, 6, 3), resize="crop", shorter_side=5)


@pytest.mark.parametrize("pad", [114, (1, 2, 3)])
def test_a_letterbox_pads_around_the_whole_image(
    tmp_path: Path, pad: int | tuple[int, ...]
) -> None:
    x = pixels(4, 8)
    boxed = made(draw(tmp_path / "x.png", x), spec("n", 8, 8, 3), resize="letterbox", pad=pad)
    assert np.array_equal(boxed[2:6], x)
    assert (boxed[[0, 1, 6, 7]] == pad).all()


def test_a_pad_of_red_green_blue_stays_that_in_a_model_of_blue_green_red(tmp_path: Path) -> None:
    path = draw(tmp_path / "x.png", pixels(4, 8))
    boxed = made(path, spec("n", 8, 8, 3), resize="letterbox", pad=(1, 2, 3), channels="bgr")
    assert boxed[0, 0].tolist() == [3, 2, 1]


def test_the_interpolations_differ_and_area_is_box() -> None:
    photo = photographs()[0]
    ways = ["bilinear", "bicubic", "nearest", "area", "box", "lanczos"]
    small = {w: made(photo, spec("n", 32, 32, 3), interpolation=w) for w in ways}
    assert np.array_equal(small["area"], small["box"])
    assert len({small[w].tobytes() for w in ways}) == 5


def test_a_free_size_comes_from_the_preprocessing(tmp_path: Path) -> None:
    path = draw(tmp_path / "x.png")
    free = spec("n", "h", "w", 3)
    assert made(path, free, size=8).shape == (8, 8, 3)
    assert made(path, free, size=(2, 5)).shape == (2, 5, 3)
    with pytest.raises(UsageError, match="leaves their size open"):
        made(path, free)
    with pytest.raises(UsageError, match="takes another"):
        made(path, BYTES, size=8)


# Channels and layout


def test_bgr_turns_the_channels_around(tmp_path: Path) -> None:
    x = made(draw(tmp_path / "x.png"), spec("n", 5, 6, 3), channels="bgr")
    assert np.array_equal(x, pixels()[:, :, ::-1])


@pytest.mark.parametrize(
    ("shape", "sample"),
    [
        (("n", 5, 6, 3), (5, 6, 3)),
        (("n", 3, 5, 6), (3, 5, 6)),
        (("n", "h", 6, 3), (5, 6, 3)),
        ((1, 5, 6, 1), (5, 6, 1)),
        (("n", 1, 5, 6), (1, 5, 6)),
        (("n", 5, 6, 4), (5, 6, 4)),
        (("n", 5, 6), (5, 6)),
        ((1, 5, 6), (5, 6)),
        ((5, 6, 3), (5, 6, 3)),
        ((3, 5, 6), (3, 5, 6)),
    ],
)
def test_the_layout_is_seen_from_where_the_channels_stand(
    tmp_path: Path, shape: tuple[int | str, ...], sample: tuple[int, ...]
) -> None:
    x = made(draw(tmp_path / "x.png"), spec(*shape), size=(5, 6))
    assert x.shape == sample


def test_an_open_layout_is_asked_for_and_taken(tmp_path: Path) -> None:
    path = draw(tmp_path / "x.png", pixels(3, 3))
    both = spec("n", 3, 3, 3)
    with pytest.raises(UsageError, match="layout: nhwc or layout: nchw"):
        made(path, both)
    last, first = made(path, both, layout="nhwc"), made(path, both, layout="nchw")
    assert np.array_equal(first, last.transpose(2, 0, 1))
    with pytest.raises(UsageError, match="neither is 1, 3 or 4"):
        made(path, spec("n", 8, 8, 12))


@pytest.mark.parametrize(
    ("target", "keys", "words"),
    [
        (spec("n", 10), {}, "is no image"),
        (spec("n", 8, 8, 3), {"channels": "gray"}, "channels are gray"),
        (spec("n", 8, 8, 1), {"mean": (1, 2, 3)}, "mean has 3 values"),
        (spec("n", 8, 8, 3), {"layout": "nchw"}, "as nchw has 8 channels"),
        (spec("n", 8, 8, 3, dtype="float16"), {"scale": 1e4}, "image is float16"),
        (spec("n", 8, 8, 3, dtype="uint8"), {"scale": 1 / 255}, "image is uint8"),
        (spec("n", 8, 8, 3, dtype="int8"), {}, "takes pixels to 0–255"),
    ],
)
def test_preprocessing_that_does_not_fit_the_input_is_refused(
    target: TensorSpec, keys: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        frame_for(target, Preprocessing(**keys), "test")


def test_signed_bytes_take_pixels_less_128(tmp_path: Path) -> None:
    x = made(draw(tmp_path / "x.png"), spec("n", 5, 6, 3, dtype="int8"), mean=128)
    assert x.dtype == np.int8
    assert np.array_equal(x, pixels().astype(np.int16) - 128)


# The file


def test_a_file_begins_with_a_preset_and_changes_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("preset: torch\nresize: crop\nshorter_side: 256\ninterpolation: bicubic\n")
    way = as_preprocessing(path)
    assert way is not None
    assert (way.scale, way.std, way.shorter_side) == (1 / 255, (0.229, 0.224, 0.225), 256)
    assert way == as_preprocessing(
        {"preset": "torch", "resize": "crop", "shorter_side": 256, "interpolation": "bicubic"}
    )


def test_equal_preprocessing_has_equal_words_and_other_has_others() -> None:
    unit = as_preprocessing("unit")
    assert unit is not None
    assert unit.canonical() == Preprocessing(scale=1 / 255).canonical()
    assert unit.canonical() != Preprocessing(scale=1 / 256).canonical()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mean: [1, 2\n", "not YAML"),
        ("scale: 1/255\nmeen: 3\n", "mine.yaml:2: unknown key meen"),
        ("preset: pytorch\n", "mine.yaml:1: no preset 'pytorch'"),
        ("std: 0\n", "cannot be divided by"),
        ("scale: 1/0\n", "divides by 0"),
        ("scale: .nan\n", "scale"),
        ("pad: 256\n", "0 to 255"),
        ("size: [0, 4]\n", "at least 1"),
        ("resize: squash\n", "'stretch', 'crop' or 'letterbox'"),
        ("shorter_side: 256\n", "goes with resize: crop"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        as_preprocessing(path)
    assert words in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_wrong_mapping_name_or_type_is_refused() -> None:
    with pytest.raises(UsageError, match="keys are"):
        as_preprocessing({"meen": 3})
    with pytest.raises(UsageError, match="neither a file nor a preset"):
        as_preprocessing("pytorch")
    with pytest.raises(UsageError, match="is a int"):
        as_preprocessing(7)
