"""A bundle whose weights are stored in fewer bits, through the Swift loader."""

from __future__ import annotations

from pathlib import Path

from edgepack.pipeline import build
from tests.device.swift.linux import swift_self_test
from tests.models import write
from tests.weighty import token_rows, weighty_model


def test_weights_are_expanded_once_and_to_the_same_numbers(tmp_path: Path) -> None:
    model = weighty_model()
    (result,) = build(
        write(model, tmp_path / "weighty.onnx"),
        targets=["ios-cpu"],
        precision="int8-weights",
        calibration={"tokens": token_rows(64)},
        max_drop=10,
        output_dir=tmp_path / "dist",
    )
    outcome = swift_self_test(result.bundle)
    assert outcome["passed"], outcome
    # What runs are the float model's nodes, none that expands a weight.
    assert outcome["report"]["nodes"] == {"CPUExecutionProvider": len(model.graph.node)}
