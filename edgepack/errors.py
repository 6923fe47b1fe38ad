"""Every error edgepack raises on purpose: what is wrong, and what to do about it.

Anything else that reaches the user is a bug and keeps its traceback.
"""

from __future__ import annotations


class EdgepackError(Exception):
    """What went wrong (`cause`) and the remedy (`fix`).

    Attributes:
        cause: one sentence that names the file, key, tensor and value.
        fix: what the user does next; an exact command where there is one.
        kind: a stable word for scripts, shown by `--json`.
        exit_code: what the command line exits with.
    """

    kind = "error"
    exit_code = 1

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.cause}\n{self.fix}"


class UsageError(EdgepackError):
    """The request itself does not make sense: an option, a precision, a combination."""

    kind = "usage"
    exit_code = 2


class ModelError(EdgepackError):
    """The source model is missing, broken, of an unknown format, or cannot be converted."""

    kind = "model"
    exit_code = 3


class ShapeError(EdgepackError):
    """A shape is not what the model or the target can take."""

    kind = "shape"
    exit_code = 3


class TargetError(EdgepackError):
    """A target is unknown, or its profile is not valid."""

    kind = "target"
    exit_code = 4


class DataError(EdgepackError):
    """Calibration or input data are missing, misshapen or not finite."""

    kind = "data"
    exit_code = 5


class ParityError(EdgepackError):
    """A stage changed the model's answers by more than its precision allows."""

    kind = "parity"
    exit_code = 6


class AccuracyError(EdgepackError):
    """No way to build for a target is as accurate as the user asks."""

    kind = "accuracy"
    exit_code = 12


class BundleError(EdgepackError):
    """A bundle is missing, damaged, of a newer schema, or does not answer its golden tensors."""

    kind = "bundle"
    exit_code = 7


class TrustError(EdgepackError):
    """A signature, key or trust file is missing, not valid, or not trusted; `kind` says which rule does not hold."""

    kind = "trust"
    exit_code = 13

    def __init__(self, cause: str, fix: str, *, kind: str = "trust") -> None:
        super().__init__(cause, fix)
        self.kind = kind


class FlashError(EdgepackError):
    """A board cannot be reached, or is not on the release that it should be on; `kind` says which step did not hold."""

    kind = "flash"
    exit_code = 14

    def __init__(self, cause: str, fix: str, *, kind: str = "flash") -> None:
        super().__init__(cause, fix)
        self.kind = kind


class OutputError(EdgepackError):
    """The output place cannot be written, or already holds something."""

    kind = "output"
    exit_code = 8


class EnvironmentMissing(EdgepackError):
    """A program or package that this work needs is not installed."""

    kind = "environment"
    exit_code = 9


class StepError(EdgepackError):
    """A step of the pipeline could not do its work on this model."""

    kind = "step"
    exit_code = 10


class LegalityError(EdgepackError):
    """A finished graph breaks a rule of the target: the device would refuse it, or answer wrong."""

    kind = "legality"
    exit_code = 11


def first_line(error: BaseException) -> str:
    """A foreign exception's type and the first line of what it says, for a cause of ours."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
