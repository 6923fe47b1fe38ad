"""The disk is full, broken or read-only from any operation on, or fails once: what ran goes on running (see scenes.py).

`python -m tests.agent disk` tries every operation of every story; here it is a sample, by a seed that is printed.
"""

from __future__ import annotations

import errno
import random

import pytest

from tests.agent.faults import Fault
from tests.agent.scenes import SEED, STORIES, Scene


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS], ids=errno.errorcode.get)
@pytest.mark.parametrize("name", STORIES)
def test_a_board_outlives_a_failing_disk(scene: Scene, name: str, error: int) -> None:
    story = scene.stories[name]
    count = scene.count(story)
    draw = random.Random(f"{SEED} {name} {error}")
    for point in draw.sample(range(count), 2 if name == "flash" else 1):
        fault = Fault(at=point, error=error, lasting=draw.random() < 0.7)
        print(f"EDGEPACK_SEED={SEED}: {name}: {fault} of {count}")
        scene.fail(story, fault)
