"""A release that edgepack built, flashed to a Jetson of stand-ins: its own loader and onnxruntime are real."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgepack
from edgepack.trust.signature import sign
from edgepack_agent import facts
from tests.agent.board import Board, name_of
from tests.agent.bundles import trust
from tests.agent.jetson import ORIN
from tests.device.board.fakes.onpath import install
from tests.models import conv_model
from tests.trust.bundles import key, snapshot


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    onnx.save(conv_model(), folder / "digits.onnx")
    built = edgepack.build(
        folder / "digits.onnx",
        targets=["jetson-orin"],
        precision="int8",
        output_dir=folder,
        calibration="random",
        release_seq=3,
    )[0].bundle
    sign(built, key("release"))
    return built


def jetson(board: Board, **changes: Any) -> Callable[[], None]:
    """A patch: the board is an Orin, but for `changes`."""

    def patch() -> None:
        facts.read = lambda: ORIN._replace(**changes)

    return patch


@pytest.fixture
def orin(bare: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    programs = install(tmp_path / "bin", "trtexec", "tegrastats", "nvpmodel")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    bare.patches.append(jetson(bare))
    return bare


def report_of(board: Board, bundle: Path) -> dict[str, Any]:
    text = (board.folder / "reports" / f"{name_of(bundle)}.json").read_text()
    data: dict[str, Any] = json.loads(text)
    return data


def engines(board: Board) -> set[str]:
    return {p.name for p in (board.folder / "engines").iterdir() if len(p.name) == 32}


def test_it_is_built_for_proven_and_timed_and_the_signed_release_stays_as_it_was(
    orin: Board, bundle: Path
) -> None:
    ended = orin.flash(bundle, trust_file=trust())
    assert ended.outcome == "committed", ended.done
    report = report_of(orin, bundle)
    assert report["board"]["model"] == ORIN.model
    assert report["engine"]["built"] == "trtexec"
    assert report["engine"]["proven"]
    assert report["engine"]["latency"]["median_ms"] == 2241.13
    assert report["golden"]["report"]["provider"] == "CPUExecutionProvider"
    assert report["latency"]["median_ms"] > 0
    assert report["latency"]["power_mode"] == "MAXN"
    assert report["latency"]["tegrastats"]["power_mw"]
    # The release's own loader compares every byte with the manifest.
    loader = orin.folder / "current/loader/edgepack_loader.py"
    done = subprocess.run([sys.executable, "-B", loader, "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {k: v[1] for k, v in snapshot(orin.folder / "current/").items()} == {
        k: v[1] for k, v in snapshot(bundle).items()
    }


def test_after_an_upgrade_of_jetpack_the_engine_is_built_anew(orin: Board, bundle: Path) -> None:
    assert orin.flash(bundle, trust_file=trust()).outcome == "committed"
    (first,) = engines(orin)
    orin.patches.append(jetson(orin, l4t="36.5.0", tensorrt="10.7.0.23-1+cuda12.6"))
    assert orin.flash(bundle).outcome == "unchanged"
    assert Path(report_of(orin, bundle)["engine"]["folder"]).name in engines(orin) - {first}
    orin.patches.append(jetson(orin, l4t="39.2.0", tensorrt="10.16.2.10-1+cuda13.2"))
    ended = orin.flash(bundle)
    assert (ended.outcome, ended.kind) == ("refused", "l4t")
    assert "39.2.0" in ended.done["error"]["cause"]


FAILURES = [
    *[(does, "engine") for does in ("out-of-memory", "refusal", "empty", "off", "killed")],
    ("hang", "engine"),
]


@pytest.mark.parametrize(("does", "kind"), FAILURES)
def test_where_no_engine_can_be_built_nothing_is_switched(
    orin: Board, bundle: Path, monkeypatch: pytest.MonkeyPatch, does: str, kind: str
) -> None:
    monkeypatch.setenv("FAKE_TRTEXEC", does)
    ended = orin.flash(bundle, trust_file=trust(), engine="trtexec", engine_seconds=3)
    assert (ended.outcome, ended.kind, ended.states[-1]) == ("failed", kind, "BUILD")
    assert orin.current() is None
    assert engines(orin) == set()


def test_what_does_not_fit_the_board_is_refused_before_anything_is_written(
    orin: Board, bundle: Path
) -> None:
    orin.patches.append(jetson(orin, tensorrt="8.6.2.3-1+cuda12.2"))
    ended = orin.flash(bundle, trust_file=trust())
    assert (ended.outcome, ended.kind, ended.sent) == ("refused", "tensorrt", 0)
    written = {p for p in snapshot(orin.root) if not p.endswith(("digits", "lock"))}
    assert written == set()
