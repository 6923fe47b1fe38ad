"""A thousand images of 224×224 pass through in a small part of what they would take together (602 MB as float32)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

COUNT = 1000
#: Two passes, a digest and a check of values may take this much; all samples together take 602 MB.
BOUND_BYTES = 100e6
# VmHWM and not ru_maxrss: a process inherits that from the one which started it, here a large pytest, and grows by nothing.
PASSES = """
import json, sys
from pathlib import Path
import numpy as np
from edgepack.artifact import TensorSpec
from edgepack.samples.opening import open_samples
import PIL.Image, PIL.ImageOps, PIL.JpegImagePlugin

def peak_bytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(l for l in lines if l.startswith("VmHWM")).split()[1]) * 1024

def generate():
    for i in range(1000):
        yield np.full((224, 224, 3), i % 251, np.float32)

spec = TensorSpec(name="image", dtype="float32", shape=("batch", 224, 224, 3))
data, preprocessing, at_once = json.loads(sys.argv[1])
before = peak_bytes()
samples = open_samples(
    generate if data is None else data, specs=[spec], folder=Path("spool"), preprocessing=preprocessing
)
samples.digest
if at_once:
    everything = samples.inputs["image"][:]
means = [[float(f["image"].mean()) for f in samples.feeds([spec])] for _ in range(2)]
print(json.dumps([len(means[0]), means[0] == means[1], peak_bytes() - before]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


def grown(
    folder: Path, data: str | None, preprocessing: str | None = None, *, at_once: bool = False
) -> int:
    """By how many bytes a process's peak grows over two passes."""
    done = subprocess.run(
        [sys.executable, "-c", PASSES, json.dumps([data, preprocessing, at_once])],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    count, same, size_bytes = json.loads(done.stdout)
    assert (count, same) == (COUNT, True)
    return int(size_bytes)


def write_array(folder: Path) -> None:
    shape = (COUNT, 224, 224, 3)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", dtype=np.float32, shape=shape)
    for i in range(COUNT):
        x[i] = i


def test_a_thousand_photographs_are_decoded_twice_in_little_memory(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    rng = np.random.default_rng(0)
    for i in range(COUNT):
        tiles = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        tiles.resize((224, 224)).save(tmp_path / "set" / f"{i:04}.jpg")
    assert grown(tmp_path, "set", "tf") < BOUND_BYTES


def test_a_generators_thousand_samples_are_kept_on_disk(tmp_path: Path) -> None:
    assert grown(tmp_path, None) < BOUND_BYTES


def test_a_thousand_samples_in_a_file_stay_there(tmp_path: Path) -> None:
    write_array(tmp_path)
    assert grown(tmp_path, "x.npy") < BOUND_BYTES


def test_a_thousand_samples_in_an_archive_are_kept_on_disk(tmp_path: Path) -> None:
    write_array(tmp_path)
    np.savez(tmp_path / "x.npz", image=np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert grown(tmp_path, "x.npz") < BOUND_BYTES


def test_the_measure_sees_samples_that_are_all_in_memory(tmp_path: Path) -> None:
    write_array(tmp_path)
    assert grown(tmp_path, "x.npy", at_once=True) > 500e6
