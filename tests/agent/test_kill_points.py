"""The process is killed before any of its operations, or in the middle of a write; then the board recovers (see scenes.py).

`python -m tests.agent kills` tries every point of every story; here it is a sample, by a seed that is printed.
"""

from __future__ import annotations

import random

import pytest

from tests.agent.scenes import SEED, STORIES, Scene


@pytest.mark.parametrize("name", STORIES)
def test_a_board_recovers_from_being_killed_anywhere(scene: Scene, name: str) -> None:
    story = scene.stories[name]
    count = scene.count(story)
    draw = random.Random(f"{SEED} {name}")
    points = sorted(draw.sample(range(count), min(count, 10 if name == "flash" else 3)))
    for point in points:
        print(f"EDGEPACK_SEED={SEED}: {name}: killed at {point} of {count} operations")
        scene.kill(story, point)
