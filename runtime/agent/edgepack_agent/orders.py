"""The orders that a host, a unit at boot, or a person gives; README.md has the list."""

from __future__ import annotations

import argparse
import json
import os
import signal
from typing import Any, Callable

from edgepack_agent import (
    clock,
    conversation,
    doctor,
    durable,
    journal,
    lock,
    machine,
    papers,
    recovery,
    releases,
    state,
    timer,
)
from edgepack_agent.conversation import Channel
from edgepack_agent.journal import Journal
from edgepack_agent.places import Places, places
from edgepack_trust import Refusal

#: How long an order waits for another that is about to end.
_WAIT_SECONDS = 30
#: What `history` tells at most, newest last.
_EVENTS = 1000


def main(arguments: list[str] | None = None) -> int:
    """Carry out one order; 0 if it ended well, 1 if it has an error to tell, 2 if the call itself is wrong."""
    given = _parser().parse_args(arguments)
    # The end of the session in which it was started is not the end of a flash.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    channel = Channel()
    try:
        where = places(given.root, given.app)
        done = given.order(where, channel, given)
    except Exception as error:
        refusal = durable.as_refusal(error)
        done = {"outcome": "refused", "error": machine.as_fields(refusal)}
    if done is None:
        return 0
    channel.say("done", **done)
    return 1 if "error" in done else 0


def _flash(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    return machine.flash(where, channel)


def _confirm(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    return _under_lock(
        where, "a confirmation", lambda log: recovery.confirm(where, given.release, log)
    )


def _recover(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    """Whoever holds the lock has recovered already, or is about to. A flash that restarts the app's unit holds it, and would wait for us."""
    try:
        return _under_lock(
            where,
            "a recovery",
            lambda log: recovery.recover(where, log, app_runs=False),
            wait_seconds=1,
        )
    except Refusal as refusal:
        if refusal.kind != "locked":
            raise
        return {"outcome": "locked", "release": releases.linked(where.current)}


def _rollback(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    return _under_lock(where, "a rollback", lambda log: recovery.step_back(where, log))


def _under_lock(
    where: Places,
    what: str,
    work: Callable[[Journal], recovery.Result],
    wait_seconds: float = _WAIT_SECONDS,
) -> dict[str, Any]:
    log = Journal(where, None, what)
    with lock.held(where, what, wait_seconds=wait_seconds):
        before = releases.linked(where.current)
        try:
            result = work(log)
        except OSError as error:
            current = releases.linked(where.current)
            # What is half done the next recovery takes to its end.
            outcome = "failed" if current == before else "stuck"
            result = recovery.Result(outcome, current, durable.refusal(error))
    done: dict[str, Any] = {"outcome": result.outcome, "release": result.release}
    if result.error is not None:
        done["error"] = machine.as_fields(result.error)
    return done


def _timer(where: Places, channel: Channel, given: argparse.Namespace) -> None:
    log = Journal(where, given.flash_id, "the rollback timer")
    timer.keep(where, given.flash_id, lambda: recovery.recover(where, log))


def _status(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    known, current = state.read(where) or state.State(), releases.linked(where.current)
    under_way = None
    if known.trial is not None:
        left = known.trial.deadline - clock.since_boot()
        rebooted = known.trial.boot_id != clock.boot_id()
        under_way = {
            "release": known.trial.release,
            "by": known.trial.by,
            "phase": known.trial.phase,
            "seconds": 0 if rebooted else max(0, int(left)),
        }
    return {
        "outcome": "ok",
        "status": {
            "app": where.app,
            "current": current,
            "report": None if current is None else _report(where.report(current)),
            "previous": releases.linked(where.previous),
            "releases": releases.names(where),
            "committed": known.committed,
            "min_seq": known.min_seq,
            "trial": under_way,
            "stuck": known.stuck,
            "lock": lock.owner(where),
            "last": journal.last(where),
            "engines": [name for name in durable.names(where.engines) if name[0] != "."],
            "incoming": list(durable.names(where.incoming)),
        },
    }


def _report(place: str) -> Any:
    """What a release measured when it was proven; None if that cannot be read."""
    try:
        with open(place, "rb") as file:
            return json.loads(file.read())
    except (OSError, ValueError):
        return None


def _history(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    return {"outcome": "ok", "events": journal.read(where)[-_EVENTS:]}


def _doctor(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    return {"outcome": "ok", "checks": doctor.examine(where.root, where.app)}


def _admit(where: Places, channel: Channel, given: argparse.Namespace) -> dict[str, Any]:
    message = channel.hear()
    if message is None:
        raise Refusal("protocol", "the host said nothing", "give `begin` on stdin, as for a flash")
    begin = conversation.read_begin(message)
    file = os.path.abspath(given.file)
    known = state.read(where) or state.State()
    return {
        "outcome": "admitted",
        "sha256": papers.admit(where, begin, known, file),
        "path": file,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edgepack-agent.pyz",
        description="Take a release in, prove it, switch to it, or go back. Prints one JSON object a line.",
    )
    parser.add_argument(
        "--root", metavar="DIR", help="where the apps lie (root: /var/lib/edgepack)"
    )
    parser.add_argument("--app", required=True, metavar="APP")
    orders = parser.add_subparsers(dest="name", required=True, metavar="ORDER")
    for name, order, summary in (
        ("flash", _flash, "the conversation on stdin and stdout"),
        ("confirm", _confirm, "the release in trial answers: commit it"),
        ("recover", _recover, "put right what was left; before the app starts"),
        ("rollback", _rollback, "back to the previous release"),
        ("status", _status, "what runs, and what is under way"),
        ("history", _history, "the journal"),
        ("doctor", _doctor, "what the board is and what it lacks"),
        ("admit", _admit, "verify an agent by the bundle that brings it, on stdin"),
        ("timer", _timer, "what a flash starts beside itself"),
    ):
        sub = orders.add_parser(name, help=summary, description=summary)
        sub.set_defaults(order=order)
        if name == "confirm":
            sub.add_argument("release")
        elif name == "admit":
            sub.add_argument("file")
        elif name == "timer":
            sub.add_argument("flash_id")
    return parser
