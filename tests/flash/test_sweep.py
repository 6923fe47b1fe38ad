"""A few points of the sweep (tests/flash/sweep.py has all of them), other ones by a new seed each day."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from tests.flash.sweep import VICTIMS, Sweep, points, sweep

#: $EDGEPACK_TEST_SEED repeats a day's choice.
SEED = int(os.environ.get("EDGEPACK_TEST_SEED", time.time() // 86400))


@pytest.fixture(scope="module")
def it() -> Iterator[Sweep]:
    with sweep(arm64=False) as it:
        yield it


@pytest.mark.parametrize("victim", VICTIMS)
def test_whoever_is_killed_the_board_runs_the_old_or_the_new_release(
    it: Sweep, victim: str
) -> None:
    point = next(p for p in points(SEED) if p.victim == victim)
    print(f"EDGEPACK_TEST_SEED={SEED}: {point}")
    it.run(point)
