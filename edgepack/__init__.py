"""edgepack: from a trained model to bundles that prove themselves on each device.

The public API. Names are resolved on first use, so that `import edgepack` loads neither TensorFlow nor onnxruntime.

    >>> import edgepack
    >>> results = edgepack.build("model.keras", targets=["android"], output_dir="dist")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from edgepack.bundle.open import load_manifest
    from edgepack.bundle.verify import VerifyResult, run, verify
    from edgepack.conversion import ConvertResult, convert
    from edgepack.errors import EdgepackError
    from edgepack.inspection import inspect
    from edgepack.intake.request import IntakeRequest
    from edgepack.pipeline import BuildResult, build
    from edgepack.targets import TargetProfile, list_targets, load_target

#: No module carries the name of a function it is the home of: importing it would hide the function.
_HOMES = {
    "BuildResult": "edgepack.pipeline",
    "ConvertResult": "edgepack.conversion",
    "EdgepackError": "edgepack.errors",
    "IntakeRequest": "edgepack.intake.request",
    "TargetProfile": "edgepack.targets",
    "VerifyResult": "edgepack.bundle.verify",
    "build": "edgepack.pipeline",
    "convert": "edgepack.conversion",
    "inspect": "edgepack.inspection",
    "list_targets": "edgepack.targets",
    "load_manifest": "edgepack.bundle.open",
    "load_target": "edgepack.targets",
    "run": "edgepack.bundle.verify",
    "verify": "edgepack.bundle.verify",
}

__all__ = [
    "BuildResult",
    "ConvertResult",
    "EdgepackError",
    "IntakeRequest",
    "TargetProfile",
    "VerifyResult",
    "__version__",
    "build",
    "convert",
    "inspect",
    "list_targets",
    "load_manifest",
    "load_target",
    "run",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgepack' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
