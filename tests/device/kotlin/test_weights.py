"""Bundles whose weights are stored in fewer bits, through the loader on Android's version of onnxruntime."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.pipeline import build
from tests.device.kotlin.jvm import Jvm
from tests.models import write
from tests.weighty import token_rows, weighty_model


@pytest.mark.parametrize("precision", ["fp16-weights", "int8-weights"])
def test_weights_are_expanded_to_the_same_numbers(jvm: Jvm, tmp_path: Path, precision: str) -> None:
    (result,) = build(
        write(weighty_model(), tmp_path / "weighty.onnx"),
        targets=["android"],
        precision=precision,
        calibration={"tokens": token_rows(64)},
        max_drop=10,
        output_dir=tmp_path / "dist",
    )
    report = jvm.self_test(result.bundle)
    assert report["passed"], report
    shipped = [case for case in report["cases"] if case["from"] == "shipped"]
    assert len(shipped) == 3
