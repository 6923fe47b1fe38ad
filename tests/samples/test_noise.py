"""Noise: only when asked for, the same whenever it is read, marked as what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgepack.artifact import TensorSpec
from edgepack.errors import UsageError
from edgepack.samples.noise import random_samples
from edgepack.samples.opening import open_samples, require_exists

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 4, "width", 3))
TOKENS = TensorSpec(name="tokens", dtype="int64", shape=("batch", 5))
BYTES = TensorSpec(name="bytes", dtype="uint8", shape=("batch", 50))
SCALAR = TensorSpec(name="gain", dtype="float16", shape=())
ALL = (IMAGE, TOKENS, BYTES, SCALAR)


def test_it_is_marked_and_fits_the_model() -> None:
    data = random_samples(ALL, 10, seed=3).checked(ALL)
    assert data.random
    assert data.source == "random"
    feeds = list(data.feeds(ALL))
    assert len(feeds) == 10
    shapes = {name: x.shape for name, x in feeds[0].items()}
    assert shapes == {"image": (1, 4, 64, 3), "tokens": (1, 5), "bytes": (1, 50), "gain": ()}
    assert all(f[s.name].dtype == np.dtype(s.dtype) for f in feeds for s in ALL)
    assert {int(v) for f in feeds for v in f["tokens"].ravel()} == {0, 1}
    assert max(int(f["bytes"].max()) for f in feeds) > 200
    assert all(0 <= f["image"].min() <= f["image"].max() < 1 for f in feeds)


def test_a_seed_gives_the_same_noise_and_another_seed_other() -> None:
    one, again, other = (random_samples([IMAGE], 5, seed=s) for s in (1, 1, 2))
    assert one.digest == again.digest != other.digest
    assert np.array_equal(one.inputs["image"][3], again.inputs["image"][:][3])
    assert not np.array_equal(one.inputs["image"][3], other.inputs["image"][3])
    assert not np.array_equal(one.inputs["image"][3], one.inputs["image"][4])


def test_a_taken_part_is_the_same_noise() -> None:
    data = random_samples([IMAGE], 5)
    assert np.array_equal(data.take([4]).inputs["image"][0], data.inputs["image"][4])


@pytest.mark.parametrize(
    "specs",
    [
        (TensorSpec(name="a", dtype="float32", shape=(8, 3)),),
        (
            TensorSpec(name="a", dtype="float32", shape=(8, 3)),
            TensorSpec(name="b", dtype="float32", shape=(2, 3)),
            TensorSpec(name="c", dtype="float32", shape=("n", 3)),
        ),
    ],
)
def test_fixed_batches_are_filled(specs: tuple[TensorSpec, ...]) -> None:
    feeds = list(random_samples(specs, 4).checked(specs).feeds(specs))
    assert len(feeds) == 4
    for spec in specs:
        size = 1 if isinstance(spec.shape[0], str) else spec.shape[0]
        assert feeds[0][spec.name].shape == (size, 3)


def test_the_word_random_asks_for_it_and_a_file_of_that_name_needs_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    require_exists("random")
    assert open_samples("random", specs=[TOKENS], folder=tmp_path / "spool").random
    with Path("random").open("wb") as file:
        np.save(file, np.ones((3, 5), np.int64))
    assert open_samples("random", specs=[TOKENS], folder=tmp_path / "spool").random
    assert not open_samples("./random", specs=[TOKENS], folder=tmp_path / "spool").random


def test_noise_has_no_labels_and_is_at_least_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no labels"):
        open_samples("random", specs=[TOKENS], folder=tmp_path, labelled=True)
    with pytest.raises(UsageError, match="0 random samples"):
        random_samples([TOKENS], 0)
