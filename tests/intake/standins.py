"""Packages that stand in for TensorFlow and misbehave, and a look at processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.intake.hostile_files import keras_archive


def tensorflow_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a `tensorflow` that runs `does` on import, found first by this process and its children."""
    packages = folder / "packages"
    for name, code in (("tensorflow", does), ("tf2onnx", "")):
        (packages / name).mkdir(parents=True)
        (packages / name / "__init__.py").write_text(code)
    monkeypatch.syspath_prepend(str(packages))
    monkeypatch.setenv("PYTHONPATH", str(packages), prepend=":")
    return packages


def keras_file(folder: Path) -> Path:
    """A .keras archive with nothing wrong that can be seen without Keras."""
    return keras_archive(folder)


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
