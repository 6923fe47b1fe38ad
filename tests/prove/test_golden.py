"""Golden inputs."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np

from edgepack.artifact import DTYPES, TensorSpec
from edgepack.prove.golden import CASES, FREE_SIZE, golden_feeds
from edgepack.samples.dataset import Samples

_SPEC = TensorSpec(name="x", dtype="float32", shape=(1, 4))


def numbered(count: int) -> Samples:
    """Samples that hold their own number."""
    x = np.repeat(np.arange(count, dtype=np.float32)[:, None], 4, axis=1)
    return Samples(inputs={"x": x}, source="test")


def taken(count: int, spec: TensorSpec = _SPEC) -> list[list[float]]:
    return [feed["x"][:, 0].tolist() for feed in golden_feeds([spec], numbered(count))]


def test_calibration_samples_are_taken_evenly_spaced() -> None:
    assert taken(9) == [[0], [3], [6]]
    assert taken(100) == [[0], [33], [66]]


def test_few_samples_give_few_cases() -> None:
    assert taken(2) == [[0], [1]]
    assert taken(1) == [[0]]


def test_a_batch_takes_samples_that_follow_each_other() -> None:
    batched = TensorSpec(name="x", dtype="float32", shape=(2, 4))
    assert taken(7, batched) == [[0, 1], [2, 3], [4, 5]]


def test_without_calibration_there_are_three_different_feeds() -> None:
    feeds = golden_feeds([_SPEC], None)
    assert len(feeds) == CASES
    assert len({feed["x"].tobytes() for feed in feeds}) == CASES


def test_noise_has_each_dtype_and_is_a_legal_index() -> None:
    specs = [TensorSpec(name=d, dtype=d, shape=(3, 5)) for d in DTYPES]
    for feed in golden_feeds(specs, None):
        for dtype, x in feed.items():
            assert x.dtype.name == dtype
            assert x.shape == (3, 5)
            assert x.astype(np.float64).min() >= 0.0
            assert x.astype(np.float64).max() <= 1.0


def test_one_name_gets_one_size_in_all_inputs() -> None:
    specs = [
        TensorSpec(name="a", dtype="float32", shape=("length", 2)),
        TensorSpec(name="b", dtype="int64", shape=(3, "length")),
    ]
    feed = golden_feeds(specs, None)[0]
    assert feed["a"].shape == (FREE_SIZE, 2)
    assert feed["b"].shape == (3, FREE_SIZE)


def test_a_scalar_input_gets_an_array_without_dimensions() -> None:
    feed = golden_feeds([TensorSpec(name="s", dtype="float32", shape=())], None)[0]
    assert feed["s"].shape == ()
    assert isinstance(feed["s"], np.ndarray)


def test_noise_is_the_same_in_another_process() -> None:
    script = (
        "import hashlib; from edgepack.artifact import TensorSpec as T;"
        "from edgepack.prove.golden import golden_feeds as g;"
        "f = g([T(name='x', dtype='float32', shape=(1, 4)), T(name='i', dtype='int32', shape=(2,))], None);"
        "print(hashlib.sha256(b''.join(v.tobytes() for feed in f for v in feed.values())).hexdigest())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    specs = [_SPEC, TensorSpec(name="i", dtype="int32", shape=(2,))]
    values = [x.tobytes() for feed in golden_feeds(specs, None) for x in feed.values()]
    assert other.stdout.strip() == hashlib.sha256(b"".join(values)).hexdigest()
