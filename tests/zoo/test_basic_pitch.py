"""Basic Pitch's SavedModel, converted by edgepack, answers as its makers' own ONNX file does."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import edgepack
from edgepack.prove.engine import answers
from tests.conftest import need
from tests.zoo.entries import read_entries
from tests.zoo.packages import place

#: Issue 3, "Must reach".
BAR = 1e-5
#: The makers' file has these names in an order of its own: note, onset, contour.
THEIRS = {
    "note": "StatefulPartitionedCall:1",
    "onset": "StatefulPartitionedCall:2",
    "contour": "StatefulPartitionedCall:0",
}


def test_the_onnx_agrees_with_its_makers_own(tmp_path: Path) -> None:
    by_name = {e.name: e for e in read_entries()}
    source = need(place(by_name["basic-pitch"]), "models.sh")
    theirs = need(place(by_name["basic-pitch-onnx"]), "models.sh")
    ours = edgepack.convert(source, tmp_path / "nmp.onnx")
    (edge,) = ours.model.inputs
    rng = np.random.default_rng(11)
    # Sound of a real level, and noise as loud as a sound file can be.
    feeds = [
        rng.normal(0, spread, (2, 43844, 1)).clip(-1, 1).astype(np.float32)
        for spread in (0.05, 0.5)
    ]
    mine = answers(ours.path, [{edge.name: x} for x in feeds])
    makers = answers(theirs, [{"serving_default_input_2:0": x} for x in feeds])
    for one, other in zip(mine, makers, strict=True):
        assert set(one) == set(THEIRS)
        for name, their_name in THEIRS.items():
            assert np.abs(one[name] - other[their_name]).max() <= BAR
