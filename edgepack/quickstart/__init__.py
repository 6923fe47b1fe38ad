"""The quickstart: one small, really trained model to bundles for four devices, verified and scored."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgepack.bundle.verify import VerifyResult, verify
from edgepack.pipeline import BuildResult, build
from edgepack.progress import Progress
from edgepack.resources import QUICKSTART, python_loader
from edgepack.yamlfile import YamlFile

#: The digits' grey values run from 0 to this.
_WHITE = 16.0


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A bundle, its verification, and the share of evaluation digits it names right (0–1)."""

    built: BuildResult
    verified: VerifyResult
    accuracy: float


@dataclass(frozen=True, kw_only=True)
class QuickstartResult:
    """All bundles, and how many digits they were scored on."""

    bundles: tuple[Scored, ...]
    digits: int

    @property
    def passed(self) -> bool:
        """Every bundle answered its golden tensors."""
        return all(b.verified.passed for b in self.bundles)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "digits": self.digits,
            "bundles": [
                {
                    **b.built.as_json(),
                    "accuracy": b.accuracy,
                    "verified": b.verified.passed,
                    "loader": b.verified.loader,
                }
                for b in self.bundles
            ],
        }


def run_quickstart(
    output: Path, *, overwrite: bool = False, progress: Progress | None = None
) -> QuickstartResult:
    """Build, verify and score.

    Raises:
        EdgepackError: one of its kinds; EnvironmentMissing without TensorFlow.
    """
    with np.load(QUICKSTART / "digits.npz") as digits:
        images = _scaled(digits["evaluation_images"])
        labels = digits["evaluation_labels"]
        calibration = {"image": _scaled(digits["calibration_images"])}
    built = build(
        QUICKSTART / "digits_cnn.keras",
        targets=YamlFile(QUICKSTART / "quickstart.yaml").data["targets"],
        output_dir=output,
        calibration=calibration,
        app="digits",
        overwrite=overwrite,
        progress=progress,
    )
    return QuickstartResult(
        bundles=tuple(
            Scored(
                built=b,
                verified=verify(b.bundle),
                accuracy=_accuracy(b.bundle, images, labels),
            )
            for b in built
        ),
        digits=len(labels),
    )


def _accuracy(bundle: Path, images: Any, labels: Any) -> float:
    with python_loader().EdgepackBundle.open(bundle).session() as session:
        guesses = [
            int(session.run({"image": image[np.newaxis]})["probabilities"].argmax())
            for image in images
        ]
    return float((np.array(guesses) == labels).mean())


def _scaled(images: Any) -> Any:
    """uint8 [N, 8, 8] → float32 [N, 8, 8, 1], 0–1."""
    return (images.astype(np.float32) / _WHITE)[..., np.newaxis]
