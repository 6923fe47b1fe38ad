"""`edgepack diff`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.divergence.networks import broken, residual_net
from tests.models import conv_model, two_input_model, write


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A model, and one whose second block is broken."""
    other = broken(residual_net(), "net/block_1/project.w")
    return write(residual_net(), tmp_path / "a.onnx"), write(other, tmp_path / "b.onnx")


def test_the_verdict_comes_first(command: Command, pair: tuple[Path, Path]) -> None:
    done = command("diff", *pair)
    assert done.code == 0
    first, worst = done.out.splitlines()[:2]
    assert first.startswith("first divergence: node net/block_1/project (Conv), ")
    assert first.endswith(" dB")
    assert worst.startswith("worst: ")
    assert "below 60 dB" in worst


def test_the_table_has_the_worst_in_the_order_they_are_computed(
    command: Command, pair: tuple[Path, Path]
) -> None:
    done = command("diff", *pair, "--rows", "3")
    rows = [line for line in done.out.splitlines() if line.endswith(("name", "name   "))]
    assert len(rows) == 3
    assert "▶" in rows[0]
    assert "block_1/project" in rows[0]
    positions = [int(r.lstrip("▶▼● ").split()[0]) for r in rows]
    assert positions == sorted(positions)
    assert "… 21 tensors more, none worse" in done.out


def test_all_shows_every_tensor(command: Command, pair: tuple[Path, Path]) -> None:
    done = command("diff", *pair, "--all")
    assert sum(line.rstrip().endswith("name") for line in done.out.splitlines()) == 24
    assert "more" not in done.out


def test_a_hundred_columns_are_enough(
    command: Command, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = command("diff", *pair, "--all").out.splitlines()
    (head,) = [line for line in lines if "SQNR dB" in line]
    for heading in ("node", "operator", "|a−b|", "rel.", "cosine", "by"):
        assert heading in head
    assert max(map(len, lines)) <= 100
    assert any(" net/block_1/depthwise_relu " in line for line in lines)


def test_identical_models_need_no_table(command: Command, pair: tuple[Path, Path]) -> None:
    done = command("diff", pair[0], pair[0])
    assert done.out.startswith("identical: no number differs in 24 tensors")
    assert "SQNR" not in done.out


def test_json_has_every_tensor_and_what_found_none(
    command: Command, pair: tuple[Path, Path]
) -> None:
    data = command("diff", *pair, "--json").json
    assert data["first"]["node"] == "net/block_1/project"
    assert len(data["layers"]) == 24
    assert data["only_a"] == data["only_b"] == []
    assert data["layers"][0]["identical"]


def test_the_threshold_can_be_set(command: Command, pair: tuple[Path, Path]) -> None:
    done = command("diff", *pair, "--sqnr-below", "5")
    assert done.out.startswith("no divergence: 24 tensors, none below 5 dB (as asked)")


def test_inputs_are_read_from_a_file(
    command: Command, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    images = np.random.default_rng(0).random((4, 3, 16, 16)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=images)
    done = command("diff", *pair, "--inputs", tmp_path / "images.npz")
    assert "inputs: images.npz, 3 feeds" in done.out
    gone = command("diff", *pair, "--inputs", tmp_path / "none.npz")
    assert gone.code == 5
    assert "none.npz: no such file" in gone.err


def test_a_model_and_its_bundle(command: Command, model: Path, bundle: Path) -> None:
    done = command("diff", model, bundle)
    assert done.code == 0
    assert "below 20 dB" in done.out
    assert f"inputs: golden inputs of {bundle}" in done.out


def test_edges_that_differ_end_with_the_models_code(command: Command, tmp_path: Path) -> None:
    a = write(conv_model(), tmp_path / "a.onnx")
    b = write(two_input_model(), tmp_path / "b.onnx")
    done = command("diff", a, b)
    assert done.code == 3
    assert "the inputs differ by name" in done.err
    assert command("diff", a, b, "--json").json["error"]["kind"] == "model"


def test_help_has_examples(command: Command) -> None:
    done = command("diff", "--help")
    assert "edgepack diff model.onnx dist/model-android" in done.out
