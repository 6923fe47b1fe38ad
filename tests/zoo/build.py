"""The model file of an entry, ready to be converted: fetched, or made in a process of its own.

python -m tests.zoo.build NAME…    make these entries' files (they are kept in the test cache)
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.alone import alone
from tests.zoo import packages
from tests.zoo.entries import Entry, read_entries

_NAMES = {
    "keras": "model.keras",
    "keras-hdf5": "model.h5",
    "savedmodel": "model",
    "graphdef": "model.pb",
    "checkpoint": "model.meta",
    "tflite": "model.tflite",
    "onnx": "model.onnx",
}
#: The same for making, converting and answering.
ENVIRONMENT = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "KERAS_BACKEND": "tensorflow",
    "ORT_DISABLE_TELEMETRY": "1",
}


class BuildError(RuntimeError):
    """A model could not be made."""


def model_path(entry: Entry) -> Path:
    """Where the entry's model is, or will be."""
    if entry.package:
        return packages.place(entry)
    folder = packages.CACHE / "models" / f"{entry.name}-{digest(entry)[:12]}"
    return folder / _NAMES[entry.format]


def ready(entries: Sequence[Entry]) -> None:
    """Every entry's model is at its `model_path` after this; TensorFlow starts once for all that are made here.

    Raises:
        BuildError, PackageError: some cannot be made or fetched, the others are there; the maker's last words are in the error.
    """
    for entry in entries:
        if entry.package:
            packages.fetch(entry)
    with alone(packages.CACHE / "models"):
        _make([e for e in entries if not e.package and not model_path(e).exists()])


def _make(entries: Sequence[Entry]) -> None:
    failed = []
    for libraries in sorted({e.libraries for e in entries}):
        names = [e.name for e in entries if e.libraries == libraries]
        path = [str(packages.ROOT)]
        if libraries:
            path.append(str(packages.fetch_libraries(libraries)))
        done = subprocess.run(
            [sys.executable, "-m", "tests.zoo.build", *names],
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": os.pathsep.join(path)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failed.append(done.stderr[-3000:])
    if failed:
        raise BuildError("cannot make a model:\n" + "\n".join(failed))


def digest(entry: Entry) -> str:
    """Changes with the entry, and for models made here with the code that makes it and the framework."""
    if entry.package:
        return entry.digest
    module = (entry.writer or entry.keras).rpartition(".")[0]
    own = [
        Path(__file__),
        Path(__file__).with_name("weights.py"),
        Path(__file__).with_name("formats.py"),
    ]
    if module.startswith("tests.zoo."):
        own.append(Path(__file__).with_name(f"{module.split('.')[2]}.py"))
    parts = [entry.digest, version("keras"), *(p.read_text() for p in own)]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def make(entry: Entry) -> Path:
    """Make one entry's model, in this process; nothing half-written is left at its path."""
    path = model_path(entry)
    path.parent.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent.parent) as scratch:
        folder = Path(scratch) / "made"
        folder.mkdir()
        _write(entry, folder / path.name)
        shutil.rmtree(path.parent, ignore_errors=True)
        folder.rename(path.parent)
    return path


def _write(entry: Entry, path: Path) -> None:
    if entry.writer:
        _named(entry.writer)(path, **entry.arguments)
        return
    import keras

    from tests.zoo.formats import save
    from tests.zoo.weights import season

    keras.backend.clear_session()
    keras.utils.set_random_seed(entry.seed)
    model = _named(entry.keras)(**entry.arguments)
    season(model, entry.seed, entry.span)
    save(model, path, entry.format, entry.tflite)


def _named(dotted: str) -> Any:
    module, _, name = dotted.rpartition(".")
    return getattr(import_module(module), name)


def main() -> None:
    """Make the named entries, one after another."""
    by_name = {e.name: e for e in read_entries()}
    failed = []
    for name in sys.argv[1:]:
        try:
            make(by_name[name])
        except Exception as error:
            failed.append(f"{name}: {type(error).__name__}: {error}")
    sys.exit("\n".join(failed) or 0)


if __name__ == "__main__":
    main()
