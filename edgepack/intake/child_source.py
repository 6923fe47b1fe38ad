"""The parent's side of a model that TensorFlow must open: everything happens in a child process (worker.py)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepack import onnxfile
from edgepack.artifact import ModelFile, TensorSpec
from edgepack.errors import EnvironmentMissing, UsageError
from edgepack.intake.checkpoint_files import weight_files
from edgepack.intake.confined import Confined
from edgepack.intake.detect import framework_path
from edgepack.intake.request import IntakeRequest
from edgepack.intake.vet.keras_archive import vet_keras_archive
from edgepack.prove.engine import Answers, Tensors

_ENVIRONMENT = {
    # Set order decides the order of tf2onnx's nodes.
    "PYTHONHASHSEED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "CUDA_VISIBLE_DEVICES": "-1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "KERAS_BACKEND": "tensorflow",
    "ORT_DISABLE_TELEMETRY": "1",
}
#: Keras goes by the suffix.
_SUFFIXES = {"keras": (".keras",), "keras-hdf5": (".h5", ".hdf5")}


class ChildSource:
    """A model opened by TensorFlow in a child process, which is confined (confine.py): it has no network, sees the model and what Python
    needs, and writes into one folder, from which regular files alone are taken.

    The constructor returns at once; TensorFlow's start-up runs beside the caller until `inputs` is first asked for.
    """

    def __init__(self, path: Path, form: str, folder: Path, request: IntakeRequest) -> None:
        """Raises EnvironmentMissing: TensorFlow or tf2onnx is not installed. ModelError: what can be seen without them is not sound."""
        if form == "keras":
            vet_keras_archive(path, trusted=request.trusted)
        for package in ("tensorflow", "tf2onnx"):
            if find_spec(package) is None:
                raise EnvironmentMissing(
                    f"{path.name} needs {package}, which is not installed",
                    "pip install 'edgepack[tensorflow]' (or, beside a TensorFlow of your own: 'edgepack[tf2onnx]')",
                )
        self.format = form
        self.path = framework_path(path, form)
        self.beside = weight_files(self.path) if form == "checkpoint" else ()
        self.rounding: dict[str, float] = {}
        self._folder = folder
        self._opened: dict[str, Any] | None = None
        model = self.path.parent if self.beside else self.path
        self._child = Confined(
            folder,
            name=self.path.name,
            framework="TensorFlow",
            # A user's own code may read what it likes.
            read=[Path("/")] if request.op_handlers else [model],
            environment=_ENVIRONMENT,
            kinds=[UsageError],
        )
        self.worker_pid = self._child.pid
        self._child.send(
            do="open",
            path=str(_suffixed(self.path, form, folder)),
            format=form,
            request=request.as_json(),
        )

    @property
    def framework(self) -> str:
        return str(self._open()["framework"])

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return _specs(self._open()["inputs"])

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return _specs(self._open()["outputs"])

    @property
    def guards(self) -> tuple[str, ...]:
        return self._child.guards

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        self._open()
        made = self._child.outbox / "converted"
        made.mkdir(exist_ok=True)
        self._child.send(do="convert", to=str(made / path.name))
        log = self._child.receive()["log"]
        for file in made.iterdir():
            self._child.take(file, path.parent / file.name)
        return onnxfile.wrap_file(path), tuple(log)

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        self._open()
        answers: Answers = []
        for i, feed in enumerate(feeds):
            to, back = self._folder / f"feed-{i}.npz", self._folder / f"answer-{i}.npz"
            np.savez(to, *[feed[s.name] for s in self.inputs])
            made = self._child.outbox / back.name
            self._child.send(do="answer", **{"from": str(to), "to": str(made)})
            self._child.receive()
            self._child.take(made, back)
            with np.load(back) as loaded:
                values = [loaded[f"arr_{k}"] for k in range(len(self.outputs))]
                for k, spec in enumerate(self.outputs):
                    if f"step_{k}" in loaded:
                        step = float(loaded[f"step_{k}"])
                        self.rounding[spec.name] = max(step, self.rounding.get(spec.name, 0.0))
            answers.append({s.name: v for s, v in zip(self.outputs, values, strict=True)})
        return answers

    def close(self) -> None:
        self._child.close()

    def _open(self) -> dict[str, Any]:
        if self._opened is None:
            self._opened = self._child.receive()
        return self._opened


def _suffixed(path: Path, form: str, folder: Path) -> Path:
    """The file under a name with its format's suffix."""
    suffixes = _SUFFIXES.get(form, ())
    if not suffixes or path.suffix.lower() in suffixes:
        return path
    link = folder / f"{path.stem}{suffixes[0]}"
    link.symlink_to(path.absolute())
    return link


def _specs(data: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(name=d["name"], dtype=d["dtype"], shape=tuple(d["shape"])) for d in data
    )
