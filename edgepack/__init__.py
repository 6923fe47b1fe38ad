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
    from edgepack.bundle.archive import pack, unpack
    from edgepack.bundle.open import load_manifest
    from edgepack.bundle.verify import VerifyResult, run, verify
    from edgepack.checking import CheckResult, check
    from edgepack.comparison import DiffResult, diff
    from edgepack.conversion import ConvertResult, convert
    from edgepack.errors import EdgepackError
    from edgepack.inspection import inspect
    from edgepack.intake.request import IntakeRequest
    from edgepack.pipeline import BuildResult, build
    from edgepack.reduced_runtime import RuntimeConfig, runtime_config
    from edgepack.targets import TargetProfile, list_targets, load_target
    from edgepack.trust.signature import sign

#: No module carries the name of a function it is the home of: importing it would hide the function.
_HOMES = {
    "BuildResult": "edgepack.pipeline",
    "CheckResult": "edgepack.checking",
    "ConvertResult": "edgepack.conversion",
    "DiffResult": "edgepack.comparison",
    "EdgepackError": "edgepack.errors",
    "IntakeRequest": "edgepack.intake.request",
    "RuntimeConfig": "edgepack.reduced_runtime",
    "TargetProfile": "edgepack.targets",
    "VerifyResult": "edgepack.bundle.verify",
    "build": "edgepack.pipeline",
    "check": "edgepack.checking",
    "convert": "edgepack.conversion",
    "diff": "edgepack.comparison",
    "inspect": "edgepack.inspection",
    "list_targets": "edgepack.targets",
    "load_manifest": "edgepack.bundle.open",
    "load_target": "edgepack.targets",
    "pack": "edgepack.bundle.archive",
    "run": "edgepack.bundle.verify",
    "runtime_config": "edgepack.reduced_runtime",
    "sign": "edgepack.trust.signature",
    "unpack": "edgepack.bundle.archive",
    "verify": "edgepack.bundle.verify",
}

__all__ = [
    "BuildResult",
    "CheckResult",
    "ConvertResult",
    "DiffResult",
    "EdgepackError",
    "IntakeRequest",
    "RuntimeConfig",
    "TargetProfile",
    "VerifyResult",
    "__version__",
    "build",
    "check",
    "convert",
    "diff",
    "inspect",
    "list_targets",
    "load_manifest",
    "load_target",
    "pack",
    "run",
    "runtime_config",
    "sign",
    "unpack",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgepack' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
