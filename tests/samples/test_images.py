"""Images: which files, in which order, with which labels, and what is said of broken ones."""

from __future__ import annotations

import io
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image

import edgepack
from edgepack.artifact import TensorSpec
from edgepack.errors import DataError, EnvironmentMissing, UsageError
from edgepack.samples.dataset import Samples
from edgepack.samples.opening import open_samples
from tests.models import FLOAT, model, value, write
from tests.samples.pictures import BYTES, PHOTO, draw, photographs, pixels


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(
    place: str | Path = "set",
    *specs: TensorSpec,
    labelled: bool = False,
    preprocessing: object = None,
) -> Samples:
    return open_samples(
        place,
        specs=specs or (BYTES,),
        folder=Path("spool"),
        labelled=labelled,
        preprocessing=preprocessing,
    )


def refusal(place: str | Path = "set", *, labelled: bool = False) -> str:
    """What is said when all images are read."""
    with pytest.raises(DataError) as caught:
        list(read(place, labelled=labelled).feeds([BYTES]))
    return str(caught.value)


def classes(**counts: int) -> None:
    """Subfolders of `set` with that many images."""
    for name, count in counts.items():
        for i in range(count):
            draw(Path("set", name, f"{i}.png"), pixels(seed=hash((name, i)) % 2**32))


def labels(samples: Samples) -> list[float]:
    assert samples.labels is not None
    return list(np.asarray(samples.labels[:]).tolist())


def test_a_folders_images_are_read_in_the_order_of_their_names() -> None:
    for name, seed in (("b.png", 1), ("a/z.PNG", 2), ("c.bmp", 3)):
        draw(Path("set", name), pixels(seed=seed))
    Path("set/notes.md").write_text("none")
    draw(Path("set/._hidden.png"))
    data = read()
    assert data.source == "set"
    given = [f["image"][0] for f in data.feeds([BYTES])]
    assert all(np.array_equal(x, pixels(seed=s)) for x, s in zip(given, (2, 1, 3), strict=True))


def test_photographs_are_read_as_the_model_takes_them() -> None:
    folder = photographs()[0].parent
    feeds = list(read(folder, PHOTO, preprocessing="tf").feeds([PHOTO]))
    assert [f["image"].shape for f in feeds] == [(1, 224, 224, 3)] * 2
    assert -1 <= min(f["image"].min() for f in feeds) < -0.9
    assert 0.9 < max(f["image"].max() for f in feeds) <= 1


def test_a_picture_taken_sideways_is_turned_upright() -> None:
    Path("set").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: the top of the scene is at the right.
    Image.fromarray(np.rot90(pixels()).copy()).save("set/x.png", exif=exif)
    assert np.array_equal(read().inputs["image"][0], pixels())


@pytest.mark.parametrize("mode", ["L", "P", "1", "RGBA", "CMYK", "LA"])
def test_other_color_modes_are_converted(mode: str) -> None:
    Path("set").mkdir()
    image = Image.fromarray(pixels()).convert(mode)
    image.save("set/x.tiff")
    expected = np.asarray(image.convert("RGB"))
    assert np.array_equal(read().inputs["image"][0], expected)


def test_a_phones_picture_with_a_second_one_behind_it_is_read() -> None:
    Path("set").mkdir()
    flat = Image.new("RGB", (6, 5), (200, 100, 50))
    flat.save("set/x.jpg", format="MPO", save_all=True, append_images=[Image.new("RGB", (6, 5))])
    assert np.abs(read().inputs["image"][0].astype(int) - (200, 100, 50)).max() <= 2


# Labels


def test_subfolders_are_classes_in_sorted_order() -> None:
    classes(dog=2, cat=1)
    data = read(labelled=True)
    assert labels(data) == [0, 1, 1]
    assert data.classes == ("cat", "dog")
    assert read().labels is None


@pytest.mark.parametrize("file", ["labels.txt", "classes.txt"])
def test_a_list_of_classes_gives_their_order(file: str) -> None:
    classes(dog=1, cat=1)
    Path("set", file).write_text("dog\nbird\ncat\n")
    data = read(labelled=True)
    assert labels(data) == [2, 0]
    assert data.classes == ("dog", "bird", "cat")


def test_a_folder_that_the_list_does_not_have_is_refused() -> None:
    classes(dog=1, cat=1)
    Path("set/labels.txt").write_text("dog\n")
    assert "'cat' is no class" in refusal(labelled=True)


def test_numbers_that_sort_differently_as_text_need_a_list() -> None:
    classes(**{str(i): 1 for i in range(11)})
    assert "sort differently" in refusal(labelled=True)
    Path("set/labels.txt").write_text("\n".join(map(str, range(11))))
    assert sorted(labels(read(labelled=True))) == list(range(11))


def test_a_table_of_labels_comes_before_folders() -> None:
    classes(dog=1, cat=1)
    Path("set/labels.csv").write_text("file,label\ndog/0.png,5\ncat/0.png,3\n")
    assert labels(read(labelled=True)) == [3, 5]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ("dog/0.png,5", "1 of 2 images are not in it, the first cat/0.png"),
        ("dog/0.png,5\ncat/0.png,3\nbird.png,1", "labels.csv:4: bird.png: no such image"),
        ("dog/0.png,5\ncat/0.png,3\ndog/0.png,1", "dog/0.png is there twice"),
        ("dog/0.png,5\ncat/0.png,", "labels.csv:3: the label is empty"),
    ],
)
def test_a_table_of_labels_that_is_not_the_folders_is_refused(lines: str, words: str) -> None:
    classes(dog=1, cat=1)
    Path("set/labels.csv").write_text(f"file,label\n{lines}\n")
    assert words in refusal(labelled=True)


def test_images_without_labels_are_refused_with_the_ways_to_give_them() -> None:
    draw(Path("set/x.png"))
    said = refusal(labelled=True)
    assert "x.png has no labels" in said
    assert "subfolder" in said
    assert "labels.csv" in said


# A CSV that lists files


@pytest.mark.parametrize("column", ["file", "path", "image"])
def test_a_table_may_list_images_beside_it(column: str) -> None:
    draw(Path("set/a/x.png"), pixels(seed=1))
    draw(Path("set/y.png"), pixels(seed=2))
    Path("set/list.csv").write_text(f"{column},label,width\ny.png,dog,6\na/x.png,cat,6\n")
    data = read("set/list.csv", labelled=True)
    assert labels(data) == [1, 0]
    assert data.classes == ("cat", "dog")
    assert np.array_equal(data.inputs["image"][:], [pixels(seed=2), pixels(seed=1)])


def test_a_listed_file_that_is_not_there_is_named_with_its_line() -> None:
    draw(Path("set/x.png"))
    Path("set/list.csv").write_text("file\nx.png\nz.png\n")
    assert "list.csv:3: z.png: no such file" in refusal("set/list.csv")


def test_a_list_without_labels_is_refused_where_they_are_asked_for() -> None:
    draw(Path("set/x.png"))
    Path("set/list.csv").write_text("file\nx.png\n")
    assert "add a column 'label'" in refusal("set/list.csv", labelled=True)


# The digest


def test_the_digest_sees_a_byte_a_name_and_the_preprocessing() -> None:
    draw(Path("set/x.png"))
    first = read().digest
    assert read().digest == first
    assert read(preprocessing={"resize": "crop"}).digest != first
    draw(Path("set/x.png"), pixels(seed=9))
    changed = read().digest
    Path("set/x.png").rename("set/y.png")
    assert len({first, changed, read().digest}) == 3


def test_the_digest_does_not_know_where_the_folder_is() -> None:
    draw(Path("set/x.png"))
    first = read().digest
    Path("set").rename("moved")
    assert read("moved").digest == first


def test_some_of_the_images_are_taken_without_reading_any() -> None:
    classes(a=3, b=3)
    data = read(labelled=True)
    broken = Path("set/a/0.png")
    broken.write_bytes(b"broken")
    taken = data.take([5, 1])
    assert labels(taken) == [1, 0]
    assert np.array_equal(taken.inputs["image"][0], data.inputs["image"][5])


# What is refused


def test_a_folder_without_images_is_refused() -> None:
    Path("set").mkdir()
    assert "holds no image" in refusal()


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".gif", ".webp", ".bmp", ".tif"])
def test_a_broken_image_is_named(suffix: str) -> None:
    whole = io.BytesIO()
    Image.fromarray(pixels(64, 64)).save(
        whole, {".jpg": "JPEG", ".tif": "TIFF"}.get(suffix, suffix[1:])
    )
    Path("set").mkdir()
    draw(Path("set/good.png"))
    for data in (b"", b"no image", whole.getvalue()[: len(whole.getvalue()) // 2]):
        Path(f"set/x{suffix}").write_bytes(data)
        said = refusal()
        assert f"x{suffix}: not a readable image" in said
        assert "mend the file" in said


def test_postscript_in_an_images_name_starts_no_other_program() -> None:
    Path("set").mkdir()
    Path("set/x.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 4\nshowpage\n")
    assert "x.png: not a readable image" in refusal()


def test_sixteen_bits_are_refused_rather_than_cut_off() -> None:
    draw(Path("set/x.png"), np.full((5, 6), 1000, np.uint16))
    assert "more than 8 bits" in refusal()


def bomb(side: int) -> bytes:
    """A PNG whose header promises side × side pixels."""
    header = side.to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("side", [10_000, 50_000])
def test_a_decompression_bomb_is_an_error(side: int) -> None:
    Path("set").mkdir()
    Path("set/x.png").write_bytes(bomb(side))
    said = refusal()
    assert "x.png" in said
    assert "DecompressionBomb" in said


def test_one_image_in_place_of_a_folder_is_refused() -> None:
    draw(Path("set/x.png"))
    assert "is one image" in refusal("set/x.png")


def test_images_for_several_inputs_are_refused() -> None:
    draw(Path("set/x.png"))
    other = TensorSpec(name="other", dtype="float32", shape=("batch", 1))
    with pytest.raises(UsageError, match="the model has 2 inputs"):
        read("set", BYTES, other)


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    draw(Path("set/x.png"))
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(EnvironmentMissing, match=r"pip install 'edgepack\[images\]'"):
        read()


def test_preprocessing_is_for_the_images_and_not_for_the_arrays_beside_them(tmp_path: Path) -> None:
    """Calibrated on an array, measured on a folder of classes."""
    for number in range(4):
        draw(tmp_path / "faces" / str(number % 2) / f"{number}.png", pixels(8, 8, seed=number))
    proto = model(
        [helper.make_node("ReduceMean", ["image"], ["scores"], axes=[1, 2], keepdims=0)],
        [value("image", FLOAT, [1, 8, 8, 3])],
        [value("scores", FLOAT, [1, 3])],
    )
    (result,) = edgepack.build(
        write(proto, tmp_path / "mean.onnx"),
        targets=["web"],
        output_dir=tmp_path / "out",
        precision="fp16",
        calibration=np.random.default_rng(0).random((4, 8, 8, 3)).astype(np.float32),
        evaluation=tmp_path / "faces",
        preprocessing="unit",
        max_drop=100.0,
    )
    assert result.accuracy.gate is not None
    assert result.accuracy.gate.samples == 4
