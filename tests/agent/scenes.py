"""Stories of a board that are cut off, and what must hold after each.

What must hold: `current` is the old release or the new one, every byte of it as it was signed, and it answers; what was committed is what is
current; nothing half-made is left; a second recovery finds nothing to do; and the next release can be flashed.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.agent import bundles
from tests.agent.board import Board, Ended, name_of, rebooted, swift, vanish, without_timer
from tests.agent.faults import Fault

#: Printed by every test that draws; set it to see the same again.
SEED = int(os.environ.get("EDGEPACK_SEED", random.SystemRandom().randrange(1 << 32)))


@dataclass(frozen=True, kw_only=True)
class Story:
    """Something that a board does and that is cut off.

    Attributes:
        prepare: brings a board that runs release 1 to where the story begins.
        run: the story, with a fault in it.
        allowed: the releases that may be current after it.
        at_boot: the power was cut: what recovers is the unit at the next boot.
    """

    name: str
    run: Callable[[Board, Fault], Ended]
    allowed: tuple[int, ...]
    prepare: Callable[[Board], object] = lambda board: None
    at_boot: bool = False


class Scene:
    """The bundles, the stories, and for each story the board it begins with."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.bundles = {
            1: bundles.release(folder / "1", 1),
            2: bundles.release(folder / "2", 2),
            3: bundles.release(folder / "3", 3, does="answer once"),
            4: bundles.release(folder / "4", 4),
        }
        self.names = {seq: name_of(bundle) for seq, bundle in self.bundles.items()}
        self._first = self._bare("first")
        ended = self._first.flash(self.bundles[1], trust_file=bundles.trust())
        assert ended.outcome == "committed", ended.done
        self._begun: dict[str, Board] = {}
        self.stories = {story.name: story for story in _stories(self)}

    def _bare(self, name: str) -> Board:
        return Board(root=self._folder / name, patches=[without_timer, swift])

    def board(self, story: Story) -> Board:
        """A fresh board on which the story can begin."""
        if story.name not in self._begun:
            begun = self._first.copy(self._folder / f"begun {story.name}")
            story.prepare(begun)
            self._begun[story.name] = begun
        place = Path(tempfile.mkdtemp(dir=self._folder))
        return self._begun[story.name].copy(place / "root")

    def count(self, story: Story) -> int:
        """How many operations the story has."""
        board = self.board(story)
        story.run(board, Fault())
        operations = len(board.operations())
        shutil.rmtree(board.root.parent)
        return operations

    def kill(self, story: Story, at: int) -> None:
        """Kill the story at an operation, and see the board recover."""
        board = self.board(story)
        ended = story.run(board, Fault(at=at))
        assert ended.code == -9, f"it was not killed: {ended}"
        if story.at_boot:
            board.patches.append(rebooted)
        self.require_recovered(story, board)
        shutil.rmtree(board.root.parent)

    def fail(self, story: Story, fault: Fault) -> None:
        """Let the disk fail at an operation, or from there on; see that the story ends and says how, and the board recover."""
        board = self.board(story)
        before = board.current()
        ended = story.run(board, fault)
        assert ended.code in (0, 1), ended
        current = board.current()
        # Without any recovery, while the disk still fails.
        damaged = story.name == "recovery from a damaged release"
        # On a disk that takes no write at all there is no way back before it is mended.
        helpless = ended.outcome == "stuck" and fault.error != errno.ENOSPC
        assert damaged or helpless or board.answers()
        if ended.outcome in ("refused", "failed"):
            assert current == before
        elif ended.outcome == "committed":
            assert current == board.state()["committed"] == self.names[2]
        elif ended.outcome == "stuck":
            # On a full disk there is always a way back.
            assert damaged or fault.error != errno.ENOSPC, ended.done
        else:
            assert current in {self.names[seq] for seq in story.allowed}
        if story.at_boot:
            board.patches.append(rebooted)
        self.require_recovered(story, board)
        shutil.rmtree(board.root.parent)

    def require_recovered(self, story: Story, board: Board) -> None:
        recovered = board.order("recover")
        assert recovered.outcome in ("unchanged", "rolled-back", "trial"), recovered.done
        if recovered.outcome == "trial":
            assert not story.at_boot
            recovered = board.order("rollback")
            assert recovered.outcome == "rolled-back", recovered.done
        current = board.current()
        assert current in {self.names[seq] for seq in story.allowed}
        assert board.answers()
        assert board.state()["committed"] == current
        assert board.state()["trial"] is None
        left = [p for p in board.folder.rglob(".*") if p.name.startswith((".tmp", ".current"))]
        assert not left
        again = board.order("recover")
        assert again.outcome == "unchanged", again.done
        assert board.current() == current
        ended = board.flash(self.bundles[4])
        assert ended.outcome == "committed", ended.done
        assert (board.current(), board.previous()) == (self.names[4], current)
        assert board.answers()


def _stories(scene: Scene) -> list[Story]:
    two, failing = scene.bundles[2], scene.bundles[3]

    def waits(board: Board) -> None:
        """The host is gone while release 2 is in trial."""
        board.flash(two, confirm=vanish, trial_seconds=3600)

    def failed(board: Board) -> None:
        """The agent is gone, too: killed as it restarts the app on release 2."""
        board.patches.append(_dies_at_restart)
        board.flash(two)
        board.patches.remove(_dies_at_restart)

    return [
        Story(name="flash", run=lambda b, f: b.flash(two, fault=f), allowed=(1, 2)),
        Story(
            name="flash, power lost",
            run=lambda b, f: b.flash(two, fault=f),
            allowed=(1, 2),
            at_boot=True,
        ),
        Story(
            name="flash, unattended",
            run=lambda b, f: b.flash(two, fault=f, unattended=True),
            allowed=(1, 2),
        ),
        Story(
            name="flash that fails in its trial",
            run=lambda b, f: b.flash(failing, fault=f),
            allowed=(1,),
        ),
        Story(
            name="unchanged bundle",
            run=lambda b, f: b.flash(scene.bundles[1], fault=f),
            allowed=(1,),
        ),
        Story(
            name="confirmation",
            prepare=waits,
            run=lambda b, f: b.order("confirm", scene.names[2], fault=f),
            allowed=(1, 2),
        ),
        Story(
            name="rollback of a trial",
            prepare=waits,
            run=lambda b, f: b.order("rollback", fault=f),
            allowed=(1,),
        ),
        Story(
            name="rollback to the previous release",
            prepare=lambda b: b.flash(two),
            run=lambda b, f: b.order("rollback", fault=f),
            allowed=(1, 2),
        ),
        Story(
            name="recovery after the agent was killed",
            prepare=failed,
            run=lambda b, f: b.order("recover", fault=f),
            allowed=(1,),
        ),
        Story(
            name="recovery at boot, power lost again",
            prepare=lambda b: (waits(b), b.patches.append(rebooted)),
            run=lambda b, f: b.order("recover", fault=f),
            allowed=(1,),
            at_boot=True,
        ),
        Story(
            name="recovery from a damaged release",
            prepare=lambda b: (b.flash(two), _damage(b, scene.names[2])),
            run=lambda b, f: b.order("recover", fault=f),
            allowed=(1,),
        ),
    ]


def _dies_at_restart() -> None:
    from edgepack_agent import probe

    probe.restart = lambda options: os.kill(os.getpid(), 9)


def _damage(board: Board, release: str) -> None:
    file = board.folder / "releases" / release / "model" / "own.bin"
    file.write_bytes(file.read_bytes()[:-1] + b"?")


STORIES = (
    "flash",
    "flash, power lost",
    "flash, unattended",
    "flash that fails in its trial",
    "unchanged bundle",
    "confirmation",
    "rollback of a trial",
    "rollback to the previous release",
    "recovery after the agent was killed",
    "recovery at boot, power lost again",
    "recovery from a damaged release",
)
