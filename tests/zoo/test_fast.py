"""The zoo's fast subset, one model a format or feature: edgepack converts it within the bar, or refuses it with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest

import edgepack
from tests.conftest import need
from tests.zoo import build, packages
from tests.zoo.convert import intake
from tests.zoo.entries import RTOL, Entry, chosen, read_entries

ENTRIES = chosen(read_entries(), [], fast=True)


@pytest.fixture(scope="module")
def made() -> None:
    """All models of the subset that are made here; TensorFlow starts once for them, and not at all where they are kept."""
    build.ready([e for e in ENTRIES if not e.package])


def converted(entry: Entry, folder: Path) -> edgepack.ConvertResult:
    return edgepack.convert(
        build.model_path(entry),
        folder / "model.onnx",
        shapes=entry.shapes or None,
        atol=entry.atol,
        rtol=RTOL,
        intake=intake(entry.options),
    )


@pytest.mark.usefixtures("made")
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_the_model_converts_within_the_bar_or_is_refused_with_the_reason(
    entry: Entry, tmp_path: Path
) -> None:
    if entry.package:
        need(packages.place(entry), "models.sh")
    if entry.refused:
        with pytest.raises(edgepack.EdgepackError) as caught:
            converted(entry, tmp_path)
        assert entry.refused.lower() in caught.value.cause.lower()
        assert list(tmp_path.iterdir()) == []
        return
    result = converted(entry, tmp_path)
    assert result.parity
    assert all(p.passed for p in result.parity)
    assert (tmp_path / "model.onnx").stat().st_size == result.model.size_bytes
