"""The files on disk against the manifest's."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgepack.bundle.open import check_files, load_manifest
from edgepack.errors import BundleError
from tests.bundle.conftest import Bundle


def refusal(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        check_files(bundle, load_manifest(bundle))
    assert str(bundle) in caught.value.cause
    return caught.value.cause


def model_of(bundle: Path) -> Path:
    return bundle / load_manifest(bundle).model.path


@pytest.mark.parametrize("target", ["jetson-orin", "android", "web"])
def test_a_fresh_bundle_is_as_it_was_built(built: Path, target: str) -> None:
    check_files(built / f"tiny-{target}", load_manifest(built / f"tiny-{target}"))


def test_an_extra_file_is_named(bundle: Bundle) -> None:
    place = bundle()
    (place / "loader" / "extra.py").write_text("x")
    assert "loader/extra.py is not in the manifest" in refusal(place)


def test_a_missing_file_is_named(bundle: Bundle) -> None:
    place = bundle()
    (place / "golden" / "1" / "input-0.bin").unlink()
    assert "golden/1/input-0.bin is missing" in refusal(place)


def test_a_flipped_byte_is_named(bundle: Bundle) -> None:
    place = bundle()
    data = bytearray(model_of(place).read_bytes())
    data[len(data) // 2] ^= 1
    model_of(place).write_bytes(data)
    assert "model/tiny.onnx was changed" in refusal(place)


def test_a_shorter_file_is_named_with_both_sizes(bundle: Bundle) -> None:
    place = bundle()
    size = model_of(place).stat().st_size
    os.truncate(model_of(place), size - 1)
    assert f"model/tiny.onnx has {size - 1} bytes, not {size}" in refusal(place)


def test_everything_wrong_is_named_at_once(bundle: Bundle) -> None:
    place = bundle()
    (place / "extra").write_text("x")
    (place / "README.md").unlink()
    (place / "build.log").write_text("x")
    said = refusal(place)
    assert all(name in said for name in ("extra", "README.md", "build.log"))


@pytest.mark.parametrize("name", ["model/tiny.onnx", "manifest.json"])
def test_a_link_is_no_file_though_its_content_is_right(bundle: Bundle, name: str) -> None:
    place = bundle()
    real = shutil.move(place / name, place.parent / "elsewhere")
    (place / name).symlink_to(real)
    assert f"{name} is not a regular file" in refusal(place)


def test_a_linked_folder_is_refused(bundle: Bundle) -> None:
    place = bundle()
    real = shutil.move(place / "golden", place.parent / "elsewhere")
    (place / "golden").symlink_to(real)
    assert "golden is not a regular file" in refusal(place)


def test_a_pipe_is_refused_and_not_read(bundle: Bundle) -> None:
    place = bundle()
    os.mkfifo(place / "pipe")
    assert "pipe is not a regular file" in refusal(place)


def test_the_signature_may_lie_beside_the_manifest_and_nothing_else(bundle: Bundle) -> None:
    place = bundle()
    (place / "manifest.sig").write_text("signed")
    check_files(place, load_manifest(place))
    for name in ("manifest.json.sig", "manifest.sig.bundle", "model/manifest.sig"):
        (place / name).write_text("signed")
        assert f"{name} is not in the manifest" in refusal(place)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"is no bundle: manifest\.json: No such file"):
        load_manifest(tmp_path)
    with pytest.raises(BundleError, match="is no bundle"):
        load_manifest(tmp_path / "none")
