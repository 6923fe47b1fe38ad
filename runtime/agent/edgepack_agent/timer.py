"""A process of the board's own that ends a trial which nobody confirms: no connection, session or parent is needed.

It looks once a second. While the flash that began the trial works, that holds the lock; if its process dies, the timer gets the lock and
goes back at once. Once the trial waits for the host, the timer lets it be until the deadline.
"""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from typing import Callable

from edgepack_agent import clock, lock, state
from edgepack_agent.places import Places, own_program
from edgepack_agent.state import WAITING, Trial
from edgepack_trust import Refusal

_LOOK_SECONDS = 1.0
_START_SECONDS = 30
_READY = b"ready\n"
#: A disk that fails now may work in a minute.
_ATTEMPTS, _FAILURE_SECONDS = 5, 20


def start(places: Places, flash_id: str) -> None:
    """Nothing, once the timer runs, in a session of its own.

    Raises:
        Refusal: of kind `timer`: it does not start.
    """
    command = [
        sys.executable,
        "-I",
        "-S",
        own_program(),
        "--root",
        places.root,
        "--app",
        places.app,
    ]
    try:
        process = subprocess.Popen(
            [*command, "timer", flash_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise _no_timer(str(error)) from error
    assert process.stdout is not None
    with process.stdout as said:
        ready, _, _ = select.select([said], [], [], _START_SECONDS)
        if not ready or said.readline() != _READY:
            process.kill()
            raise _no_timer(f"{command[0]} did not say that it is ready")
    # It is to outlive this process; without a return code Popen would warn that it still runs.
    process.returncode = 0


def keep(places: Places, flash_id: str, recover: Callable[[], object]) -> None:
    """Watch the trial of that flash until it is over, or end it by `recover`."""
    sys.stdout.buffer.write(_READY)
    sys.stdout.buffer.flush()
    failures = 0
    while failures < _ATTEMPTS:
        try:
            trial = _own(places, flash_id)
            if trial is None:
                return
            if trial.phase != WAITING or clock.since_boot() >= trial.deadline:
                # Refused: somebody works on it. They see to the trial, or die and leave the lock.
                own = lock.held(places, "the rollback timer", wait_seconds=0)
                with contextlib.suppress(Refusal), own:
                    recover()
            left = trial.deadline - clock.since_boot()
            time.sleep(min(_LOOK_SECONDS, left) if left > 0 else _LOOK_SECONDS)
        except OSError:
            failures += 1
            time.sleep(_FAILURE_SECONDS)


def _own(places: Places, flash_id: str) -> Trial | None:
    try:
        known = state.read(places)
    except Refusal:
        return None
    trial = known.trial if known else None
    return trial if trial is not None and trial.flash_id == flash_id else None


def _no_timer(why: str) -> Refusal:
    return Refusal("timer", f"the rollback timer does not start: {why}", "free memory on the board")
