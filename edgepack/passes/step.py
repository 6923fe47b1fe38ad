"""What a step is."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edgepack.artifact import Format, ModelFile
from edgepack.calibrate.calibrator import Calibrator


@dataclass(frozen=True, kw_only=True)
class StepContext:
    """What a step may use besides the model.

    Attributes:
        folder: an empty folder for what the step writes.
        name: the file name, without suffix, that the result should have.
        calibrator: representative inputs and what tensors hold on them, if the user gave some.
    """

    folder: Path
    name: str
    calibrator: Calibrator | None


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """The model after the step, whether it differs, and what the manifest should say about it.

    Facts hold no time, path or host name: the same input gives the same facts.
    """

    model: ModelFile
    changed: bool
    facts: Mapping[str, Any]


class Step(Protocol):
    """One transformation. Frozen and hashable, so that equal steps on equal models run once.

    Attributes:
        name: its key in a target profile.
        accepts, produces: the format it takes and gives.
        precision: the precision the model has from here on, if this step changes it.
        needs_calibration: it cannot run without representative inputs.
        needs_measuring: it loses so much that nothing is written of it without data to measure the loss on.
    """

    name: ClassVar[str]
    accepts: ClassVar[Format]
    produces: ClassVar[Format]
    precision: ClassVar[str | None]
    needs_calibration: ClassVar[bool]
    needs_measuring: ClassVar[bool]

    def run(self, model: ModelFile, context: StepContext) -> StepResult:
        """Raises StepError or ShapeError: the step cannot be done on this model."""
        ...


def options_of(step: Step) -> dict[str, Any]:
    """A step's options as plain JSON data, for the manifest."""
    return {f.name: _plain(getattr(step, f.name)) for f in fields(step)}  # type: ignore[arg-type]


def nearest(name: str, legal: Sequence[str]) -> str:
    """The end of a message that refuses `name`: what was perhaps meant, and all that is legal."""
    near = difflib.get_close_matches(name, legal, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint} (one of {', '.join(sorted(legal)) or 'none'})"


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(v) for v in value]
    return value
