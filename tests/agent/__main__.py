"""Every point at which a board can be cut off, where the tests take a sample.

    python -m tests.agent kills                     the process is killed
    python -m tests.agent disk                      the disk is full, broken or read-only, once or from there on
    python -m tests.agent kills flash confirmation  these stories only

Exit 1: a board did not recover.
"""

from __future__ import annotations

import argparse
import errno
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.agent.faults import Fault
from tests.agent.scenes import STORIES, Scene, Story


def main() -> int:
    """Try all of them; the exit code."""
    parser = argparse.ArgumentParser(description="Cut boards off wherever they can be.")
    parser.add_argument("what", choices=("kills", "disk"))
    parser.add_argument("stories", nargs="*", metavar="STORY", help=", ".join(STORIES))
    arguments = parser.parse_args()
    trials = _kills if arguments.what == "kills" else _disk
    total = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        for name in arguments.stories or STORIES:
            count = bad = 0
            for what, trial in trials(scene, scene.stories[name]):
                count += 1
                try:
                    trial()
                except AssertionError as error:
                    bad += 1
                    print(f"FAILED {name}, {what}: {error}", flush=True)
            print(f"{name}: {count} points, {bad} failed", flush=True)
            total, failed = total + count, failed + bad
    print(f"{total} points, {failed} failed")
    return 1 if failed else 0


def _kills(scene: Scene, story: Story) -> Iterator[tuple[str, Callable[[], None]]]:
    for at in range(scene.count(story)):
        yield f"killed at {at}", lambda at=at: scene.kill(story, at)  # type: ignore[misc]


def _disk(scene: Scene, story: Story) -> Iterator[tuple[str, Callable[[], None]]]:
    for at in range(scene.count(story)):
        for error in (errno.ENOSPC, errno.EIO, errno.EROFS):
            for lasting in (True, False):
                fault = Fault(at=at, error=error, lasting=lasting)
                yield str(fault), lambda fault=fault: scene.fail(story, fault)  # type: ignore[misc]


if __name__ == "__main__":
    sys.exit(main())
