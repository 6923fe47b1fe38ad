"""One board's flash against an SSH server in this process, with the fake agent: what crosses the link, and what happens if it breaks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from edgepack.flash.options import FlashOptions
from edgepack.flash.payload import opened
from edgepack.flash.progress import FlashProgress
from edgepack.flash.report import BoardResult
from edgepack.flash.session import Session
from tests.flash.boards import Cable, LocalBoard
from tests.flash.bundles import APP, make, some_bytes
from tests.flash.conftest import host_of


def flash(
    board: LocalBoard,
    bundle: Path,
    *,
    port: int | None = None,
    progress: FlashProgress | None = None,
    **options: Any,
) -> BoardResult:
    """Flash one board and give what became of it."""
    given = FlashOptions(**{"patience_s": 10.0, **options})
    with opened(bundle, trust=None, allow_unsigned=False) as payload:
        session = Session(host_of(board, port), payload, given, progress or FlashProgress())
        return asyncio.run(session.run())


def tell(board: LocalBoard, **orders: Any) -> None:
    """Tell the fake agent what to do."""
    (board.root / APP).mkdir(exist_ok=True)
    (board.root / APP / "fake.json").write_text(json.dumps(orders))


def payload_size(bundle: Path) -> int:
    listed = json.loads((bundle / "manifest.json").read_text())["files"]
    return sum(f["size"] for f in {f["sha256"]: f for f in listed}.values())


def test_a_flash_sends_every_file_once_and_ends_committed(board: LocalBoard, bundle: Path) -> None:
    result = flash(board, bundle)
    assert (result.outcome, result.links) == ("committed", 1), result.error
    assert result.sent_bytes == payload_size(bundle)
    assert result.report == {"median_ms": 1.5}
    assert (board.root / APP / "current.txt").read_text() == result.release
    begin = json.loads((board.root / APP / "begin.json").read_text())
    assert begin["options"] == {"allow_unsigned": False, "unattended": False, "trial_seconds": 120}
