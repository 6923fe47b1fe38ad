"""The zoo's models as LiteRT would run them: float and INT8 .tflite files from the same source and the same calibration data.

python -m tests.benchmarks.rivals FILE.keras FOLDER    write FOLDER/float.tflite and FOLDER/int8.tflite
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from tests.zoo.build import ENVIRONMENT, digest, model_path
from tests.zoo.entries import Entry
from tests.zoo.packages import CACHE, ROOT
from tests.zoo.weights import noise

#: Calibration samples for both sides.
SAMPLES = 32


def litert_files(entry: Entry) -> dict[str, Path]:
    """The .tflite files of an entry by kind, kept in the test cache; a source that is a .tflite file is its own.

    Raises:
        RuntimeError: TFLite's converter takes the model in no form; its last words are in the error.
    """
    source = model_path(entry)
    if entry.format == "tflite":
        return {"as given": source}
    folder = CACHE / "litert" / f"{entry.name}-{digest(entry)[:12]}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / "made"
            made.mkdir()
            command = [sys.executable, "-m", "tests.benchmarks.rivals"]
            done = subprocess.run(
                [*command, str(source), str(made), str(entry.span)],
                env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{entry.name}: {done.stderr[-2000:]}")
            made.rename(folder)
    return {p.stem: p for p in sorted(folder.glob("*.tflite"))}


def samples(shape: tuple[int, ...], dtype: str, span: float) -> np.ndarray:
    """The calibration data of one input, [SAMPLES, …]: what both sides are given."""
    return noise((SAMPLES, *shape), dtype, np.random.default_rng(1), span)


class LiteRt:
    """A .tflite file on LiteRT, XNNPACK, one thread."""

    def __init__(self, path: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(str(path), num_threads=1)
        self._interpreter.allocate_tensors()
        self._inputs = self._interpreter.get_input_details()
        self._outputs = self._interpreter.get_output_details()

    def given(self, feed: Mapping[str, np.ndarray]) -> dict[int, np.ndarray]:
        """The feed by LiteRT's numbers. TFLite's converter gives inputs names of its own: then their sizes tell which is which."""
        given = {}
        for i in self._inputs:
            alike = (x for x in feed.values() if x.size == math.prod(i["shape"]))
            values = feed[i["name"]] if i["name"] in feed else next(alike)
            given[i["index"]] = values.reshape(i["shape"]).astype(i["dtype"])
        return given

    def run(self, given: Mapping[int, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs in, outputs out."""
        for index, values in given.items():
            self._interpreter.set_tensor(index, values)
        self._interpreter.invoke()
        return {
            str(k): self._interpreter.get_tensor(o["index"]) for k, o in enumerate(self._outputs)
        }


def _convert(source: Path, folder: Path, span: float) -> None:
    import keras
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = keras.models.load_model(source, compile=False)
    data = [samples(t.shape[1:], t.dtype, span) for t in model.inputs]

    def batches() -> Iterator[list[np.ndarray]]:
        for i in range(SAMPLES):
            yield [x[i : i + 1] for x in data]

    for kind in ("float", "int8"):
        specs = [tf.TensorSpec((1, *t.shape[1:]), t.dtype, name=t.name) for t in model.inputs]
        function = tf.function(lambda *x: model(x[0] if len(x) == 1 else list(x), training=False))
        # Frozen first: the calibrator of TensorFlow 2.21 stumbles over variables.
        frozen = convert_variables_to_constants_v2(function.get_concrete_function(*specs))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        if kind == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = batches
        (folder / f"{kind}.tflite").write_bytes(converter.convert())


if __name__ == "__main__":
    _convert(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
