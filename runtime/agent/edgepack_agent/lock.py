"""One at a time works on an app; who comes second is told who is there."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from typing import Iterator

from edgepack_agent import clock, durable
from edgepack_agent.places import Places
from edgepack_trust import Refusal

_POLL_SECONDS = 0.1


@contextlib.contextmanager
def held(places: Places, owner: str, *, wait_seconds: float = 1) -> Iterator[None]:
    """The app's lock, while the block runs. The kernel lets go of it if this process dies; children do not inherit it.

    Args:
        owner: for whoever comes second: who, from where, to do what.
        wait_seconds: how long to wait for another to finish.

    Raises:
        Refusal: of kind `locked`, names the owner.
    """
    durable.make_folder(places.folder)
    descriptor = _open(places.lock)
    try:
        _acquire(descriptor, places, time.monotonic() + wait_seconds)
        _sign(descriptor, owner)
        yield
    finally:
        os.close(descriptor)


def owner(places: Places) -> str | None:
    """Who holds the lock; None if nobody does.

    The lock is taken for a moment to find out: `held` is to wait for longer than that.
    """
    try:
        descriptor = os.open(places.lock, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _owner(descriptor)
    finally:
        os.close(descriptor)
    return None


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        # On a disk that became read-only one can still see what is there.
        if error.errno != errno.EROFS or not os.path.exists(path):
            raise
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)


def _acquire(descriptor: int, places: Places, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Refusal(
                    "locked",
                    f"{places.app} is being worked on by {_owner(descriptor)}",
                    "wait until that has ended, or end it",
                ) from None
        time.sleep(_POLL_SECONDS)


def _sign(descriptor: int, owner: str) -> None:
    text = json.dumps({"owner": owner, "pid": os.getpid(), "since": clock.as_text()}) + "\n"
    # The text is a courtesy: a full disk must not keep a recovery from running.
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode("utf-8", "replace"), 0)


def _owner(descriptor: int) -> str:
    try:
        said = json.loads(os.pread(descriptor, 4096, 0))
        return f"{said['owner']} (process {said['pid']}, since {said['since']})"
    except (ValueError, KeyError, TypeError):
        return "somebody who did not say who"
