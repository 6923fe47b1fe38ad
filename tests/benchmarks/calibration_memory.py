"""The peak memory of a whole INT8 build that calibrates on a folder of 1,000 photographs.

    python -m tests.benchmarks.calibration_memory [--images 1000] [-t android]

MobileNetV2 (keras.applications, untrained) and JPEG files of 320 × 240 pixels, made here: pieces of scikit-image's photographs. The
figure is the sum over all processes of the build of what each holds alone and its part of what it shares (PSS), looked at twenty times
a second. Exits with 1 above 2 GB. `--precision int8` and a wide gate: what is measured is memory, and an untrained net has no accuracy.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MOST_BYTES = 2_000_000_000
_LOOK_S = 0.05


def main() -> None:
    """Print the peak and what the build took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("-t", "--target", default="android")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, photographs = Path(folder) / "net.keras", Path(folder) / "photographs"
        _write_net(model)
        _write_photographs(photographs, arguments.images)
        peak, seconds, processes = _peak(
            [
                *(sys.executable, "-m", "edgepack", "build", str(model), "-t", arguments.target),
                *("-o", f"{folder}/dist", "--precision", "int8", "--max-drop", "100"),
                *("--calibration", str(photographs), "--preprocess", "tf"),
            ]
        )
    print(
        f"{arguments.images} images of 224 × 224 to {arguments.target}: peak {peak / 1e9:.2f} GB "
        f"over {processes} processes, {seconds:.0f} s; bar {MOST_BYTES / 1e9:.0f} GB"
    )
    sys.exit(peak > MOST_BYTES)


def _write_net(path: Path) -> None:
    """In a process of its own: TensorFlow's memory is not the build's."""
    code = f"import keras; keras.applications.MobileNetV2(weights=None).save({str(path)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def _write_photographs(folder: Path, count: int) -> None:
    from PIL import Image
    from skimage import data

    folder.mkdir()
    rng = np.random.default_rng(5)
    large = [getattr(data, name)() for name in ("astronaut", "coffee", "cat")]
    for i in range(count):
        image = large[i % len(large)]
        top = rng.integers(0, image.shape[0] - 240 + 1)
        left = rng.integers(0, image.shape[1] - 320 + 1)
        Image.fromarray(image[top : top + 240, left : left + 320]).save(folder / f"{i:04}.jpg")


def _peak(command: list[str]) -> tuple[int, float, int]:
    """Bytes, seconds, and how many processes the command had at most at once."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, text=True)
        peak = most = 0
        while process.poll() is None:
            tree = _tree(process.pid)
            peak, most = max(peak, sum(map(_pss, tree))), max(most, len(tree))
            time.sleep(_LOOK_S)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{said.read()}")
    return peak, time.perf_counter() - start, most


def _tree(root: int) -> list[int]:
    """A process and all it started."""
    found = [root]
    for pid in found:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
        except OSError:
            continue
        found += [int(child) for child in children.split()]
    return found


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    main()
