"""The child process in which a model is opened: JSON lines in on stdin, one reply each on stdout.

Its crash is an error message in the parent, its chatter goes to stderr, its memory goes away with it.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path
from typing import IO, Any

from edgepack.errors import EdgepackError
from edgepack.intake.child_model import ChildModel, open_model
from edgepack.intake.confine import confine
from edgepack.intake.request import IntakeRequest


def main(confinement: str) -> None:
    """Serve requests until stdin ends.

    Args:
        confinement: what `confine` is asked for, JSON.
    """
    guards = confine(json.loads(confinement))
    # Whatever prints to stdout must not break the protocol.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _say(replies, {"guards": guards})
    server = _Server()
    for line in sys.stdin:
        try:
            reply = server.handle(json.loads(line))
        except EdgepackError as error:
            reply = {
                "error": {"kind": type(error).__name__, "cause": error.cause, "fix": error.fix}
            }
        _say(replies, reply)


class _Server:
    def __init__(self) -> None:
        self._model: ChildModel | None = None

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        if request["do"] == "open":
            self._model = open_model(
                Path(request["path"]),
                request["format"],
                IntakeRequest.from_json(request["request"]),
            )
            return {
                "framework": self._model.framework,
                "inputs": [vars(s) for s in self._model.inputs],
                "outputs": [vars(s) for s in self._model.outputs],
            }
        assert self._model is not None
        if request["do"] == "convert":
            log = _Log()
            self._model.convert(Path(request["to"]))
            return {"log": log.close()}
        self._model.answer(Path(request["from"]), Path(request["to"]))
        return {}


class _Log(logging.Handler):
    """What tf2onnx says while this is open; its lines carry no times, so they are the same in every run."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []
        logging.getLogger("tf2onnx").addHandler(self)
        logging.getLogger("tf2onnx").setLevel(logging.INFO)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname.lower()}: {record.getMessage()}")

    def close(self) -> list[str]:  # type: ignore[override]
        logging.getLogger("tf2onnx").removeHandler(self)
        return self._lines


def _say(replies: IO[str], reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()
