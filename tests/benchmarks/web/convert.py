"""One model as a rival wants it: python -m tests.benchmarks.web.convert NAME FOLDER CACHE.

Writes FOLDER/model.keras, tfjs/, model.tflite, samples.npz (inputs), and answer.npy: what Keras says to the first sample.
"""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from tests.benchmarks.web.models import make

SAMPLES = 8


def main() -> None:
    """Write everything."""
    name, folder, cache = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    model = make(name, cache)
    (spec,) = model.inputs
    rng = np.random.default_rng(0)
    shape = (SAMPLES, *spec.shape[1:])
    if "int" in spec.dtype:
        samples = rng.integers(0, 2000, shape).astype(spec.dtype)
    else:
        samples = rng.normal(size=shape).astype(np.float32)
    np.savez(folder / "samples.npz", **{spec.name: samples})
    np.save(folder / "answer.npy", np.asarray(model(samples[:1], training=False)))
    model.save(folder / "model.keras")
    fixed = tf.TensorSpec((1, *spec.shape[1:]), spec.dtype, name=spec.name)
    archive = tf.keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", lambda x: model(x, training=False), input_signature=[fixed])
    archive.write_out(folder / "saved", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder / "saved"))
    (folder / "model.tflite").write_bytes(converter.convert())
    _tfjs(folder / "saved", folder / "tfjs", cache / "benchmark-web" / "python")


def _tfjs(saved: Path, output: Path, packages: Path) -> None:
    """Its converter's own function, without what it imports for other formats (Keras 2, JAX, decision forests)."""
    for name in ("tensorflow_decision_forests", "tensorflow_hub"):
        sys.modules[name] = types.ModuleType(name)
    for name in ("tensorflowjs", "tensorflowjs.converters"):
        module = types.ModuleType(name)
        module.__path__ = [str(packages / name.replace(".", "/"))]
        sys.modules[name] = module
    from tensorflowjs.converters import tf_saved_model_conversion_v2

    tf_saved_model_conversion_v2.convert_tf_saved_model(str(saved), str(output))


if __name__ == "__main__":
    main()
