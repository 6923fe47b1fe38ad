"""What a fleet's progress prints where there is no terminal."""

from __future__ import annotations

import pytest

from edgepack.cli import live_fleet


def test_a_state_that_lasts_is_told_of_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(live_fleet, "monotonic", lambda: now)
    with live_fleet.live_fleet() as progress:
        for second in range(100):
            now = float(second)
            progress.state("cam-1", "BUILD", f"{second} s of 1800")
        progress.state("cam-1", "PROBE")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("cam-1: ")[1] for line in lines] == [
        *("BUILD (0 s of 1800)", "BUILD (30 s of 1800)", "BUILD (60 s of 1800)"),
        *("BUILD (90 s of 1800)", "PROBE"),
    ]
