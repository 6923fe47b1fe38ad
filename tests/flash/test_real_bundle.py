"""A bundle as `edgepack build` makes it, with its own loader and onnxruntime on the board: flashed, answering, flashed again, gone back."""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

import edgepack
from edgepack.flash.fleet import Fleet
from edgepack.flash.options import FlashOptions
from edgepack.flash.orders import order
from edgepack.flash.payload import opened
from edgepack.flash.report import BoardResult
from tests.bundle_samples import conv_model
from tests.flash.boards import LocalBoard
from tests.flash.bundles import write_trust
from tests.flash.conftest import host_of
from tests.flash.emulated import current
from tests.trust.bundles import key

OPTIONS = FlashOptions(python=sys.executable, trial_seconds=60)


def build(folder: Path, seq: int) -> Path:
    onnx.save(conv_model(), folder / "conv.onnx")
    (result,) = edgepack.build(
        folder / "conv.onnx",
        targets=["linux-x64"],
        precision="fp32",
        output_dir=folder / str(seq),
        app="conv",
        release_seq=seq,
    )
    edgepack.sign(result.bundle, key("release"))
    return result.bundle


def flash(board: LocalBoard, bundle: Path, trust: Path | None = None) -> BoardResult:
    with opened(bundle, trust=trust, allow_unsigned=False) as payload:
        (result,) = Fleet([host_of(board)], payload, OPTIONS).run().boards
    return result


def test_a_real_bundle_is_proven_on_the_board_by_its_own_loader(
    board: LocalBoard, tmp_path: Path
) -> None:
    trust = write_trust(tmp_path / "trust.json")
    first = flash(board, build(tmp_path, 1), trust)
    assert first.outcome == "committed", first
    assert first.report["golden"]["passed"]
    assert first.report["golden"]["report"]["provider"] == "CPUExecutionProvider"
    assert first.report["latency"]["median_ms"] > 0
    second = flash(board, build(tmp_path, 2))
    assert second.outcome == "committed", second
    # Manifest, README and build.log say which release it is; the model and the golden tensors were there.
    assert second.sent_bytes < 60_000 < first.sent_bytes
    assert current(board.root / "conv") == second.release
    host = host_of(board)
    assert order(host, "status", None)["conv"]["status"]["previous"] == first.release
    back = order(host, "rollback", None)["conv"]
    assert (back["outcome"], back["release"]) == ("rolled-back", first.release)
    assert current(board.root / "conv") == first.release
    events = [e["event"] for e in order(host, "history", None)["conv"]["events"]]
    assert events.count("flash") == 2
