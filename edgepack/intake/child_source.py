"""The parent's side of a model that TensorFlow must open: everything happens in a child process (worker.py)."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepack import onnxfile
from edgepack.artifact import ModelFile, TensorSpec
from edgepack.errors import EnvironmentMissing, ModelError, UsageError
from edgepack.intake.checkpoint_files import weight_files
from edgepack.intake.detect import framework_path
from edgepack.intake.limits import Limits
from edgepack.intake.request import IntakeRequest
from edgepack.intake.vet.keras_archive import vet_keras_archive
from edgepack.proc import Worker, WorkerDied
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
#: `python -m` would look for modules in the working folder first, where an archive may just have been unpacked.
_START = (
    "import sys; sys.path[:] = [p for p in sys.path if p]; "
    "from edgepack.intake.worker import main; main(sys.argv[1])"
)
#: Keras goes by the suffix.
_SUFFIXES = {"keras": (".keras",), "keras-hdf5": (".h5", ".hdf5")}


class ChildSource:
    """A model opened by TensorFlow in a child process, which is confined (confine.py): it has no network, sees the model and what Python
    needs, and writes into one folder, from which regular files alone are taken.

    The constructor returns at once; TensorFlow's start-up runs beside the caller until `inputs` is first asked for.
    """

    def __init__(self, path: Path, form: str, folder: Path, request: IntakeRequest) -> None:
        """Raises EnvironmentMissing: TensorFlow or tf2onnx is not installed. ModelError: what can be seen without them is not sound."""
        limits = Limits.from_environment()
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
        self._limits = limits
        #: The one place in which the child may write.
        self._outbox = folder / "child"
        self._outbox.mkdir()
        self._opened: dict[str, Any] | None = None
        self._worker = Worker(
            [sys.executable, "-c", _START, json.dumps(self._confinement(request))],
            log_path=folder / "tensorflow.log",
            environment=_ENVIRONMENT,
        )
        self.worker_pid = self._worker.pid
        self._send(
            {
                "do": "open",
                "path": str(_suffixed(self.path, form, folder)),
                "format": form,
                "request": request.as_json(),
            }
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

    def convert(self, path: Path) -> tuple[ModelFile, tuple[str, ...]]:
        guards = ", ".join(self._open()["guards"]) or "none"
        made = self._outbox / "converted"
        made.mkdir()
        self._send({"do": "convert", "to": str(made / path.name)})
        reply = self._receive()
        for file in made.iterdir():
            _take(file, path.parent / file.name)
        said = f"guards of the process that opened the model: {guards}"
        return onnxfile.wrap_file(path), (said, *reply["log"])

    def answer(self, feeds: Sequence[Tensors]) -> Answers:
        self._open()
        answers: Answers = []
        for i, feed in enumerate(feeds):
            to, back = self._folder / f"feed-{i}.npz", self._folder / f"answer-{i}.npz"
            np.savez(to, *[feed[s.name] for s in self.inputs])
            made = self._outbox / back.name
            self._send({"do": "answer", "from": str(to), "to": str(made)})
            self._receive()
            _take(made, back)
            with np.load(back) as loaded:
                values = [loaded[f"arr_{k}"] for k in range(len(self.outputs))]
                for k, spec in enumerate(self.outputs):
                    if f"step_{k}" in loaded:
                        step = float(loaded[f"step_{k}"])
                        self.rounding[spec.name] = max(step, self.rounding.get(spec.name, 0.0))
            answers.append({s.name: v for s, v in zip(self.outputs, values, strict=True)})
        return answers

    def close(self) -> None:
        self._worker.close()

    def _open(self) -> dict[str, Any]:
        if self._opened is None:
            self._opened = self._receive()
        return self._opened

    def _send(self, request: dict[str, Any]) -> None:
        try:
            self._worker.send(request)
        except WorkerDied as death:
            raise self._crash(death) from None

    def _receive(self) -> dict[str, Any]:
        try:
            reply = self._worker.receive()
        except WorkerDied as death:
            raise self._crash(death) from None
        if "error" in reply:
            cause, fix = reply["error"]["cause"], reply["error"]["fix"]
            if hit := self._limits.hit(None, cause):
                raise ModelError(f"{cause}; it ran into {hit[0]}", hit[1])
            raise {"UsageError": UsageError}.get(reply["error"]["kind"], ModelError)(cause, fix)
        return reply

    def _confinement(self, request: IntakeRequest) -> dict[str, Any]:
        """What `confine` is asked for: the model is read where it lies, and the golden inputs in the folder around the child's."""
        model = self.path.parent if self.beside else self.path
        read = [model.resolve(), self._folder.resolve()]
        return {
            **vars(self._limits),
            # A user's own code may read what it likes.
            "read": ["/"] if request.op_handlers else [str(p) for p in read],
            "write": str(self._outbox.resolve()),
        }

    def _crash(self, death: WorkerDied) -> ModelError:
        if hit := self._limits.hit(death.returncode, death.log):
            return ModelError(f"{self.path.name}: TensorFlow's process ran into {hit[0]}", hit[1])
        how = f"signal {-death.returncode}" if death.returncode < 0 else f"exit {death.returncode}"
        return ModelError(
            f"{self.path.name}: TensorFlow's process ended with {how}; its last words:\n{death.log.strip()}",
            "signal 9 is often too little memory; otherwise the words above say why",
        )


def _take(file: Path, to: Path) -> None:
    """Move a file out of the child's folder; what is no plain file of its own is nothing that the child should have made."""
    info = file.lstat()
    if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
        raise ModelError(
            f"the process that opened the model left {file.name}, which is no file of its own",
            "do not use this model: it ran code",
        )
    file.replace(to)


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
