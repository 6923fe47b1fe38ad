"""From whatever an earlier run, a power cut or a broken disk left: to a release that is whole. At most one step back, then it stops.

Nothing here looks at the date or at a signature: a board without a clock battery boots in 1970. What is on the board was trusted when it
came; here it only has to be whole.
"""

from __future__ import annotations

import contextlib
from typing import Any, NamedTuple

from edgepack_agent import agents, conversation, durable, probe, releases, state, trial
from edgepack_agent.journal import Journal
from edgepack_agent.places import Places
from edgepack_agent.state import State, Trial
from edgepack_trust import Refusal

_NEEDED = "a person is needed: look at `edgepack board history`, then flash a release"


class Result(NamedTuple):
    """Where the app is now: `unchanged`, `trial` (one is under way), `committed`, `rolled-back` or `stuck`; what is current; and why."""

    outcome: str
    release: str | None
    error: Refusal | None = None


def recover(
    places: Places, journal: Journal, *, end_trial: bool = False, app_runs: bool = True
) -> Result:
    """Where the app is, after putting right what was left. The caller holds the lock.

    Args:
        end_trial: go back also from a trial that the host could still confirm.
        app_runs: the app has started: it is restarted if it has to run something else. Where a unit recovers before its app
            starts, a restart would wait for itself.
    """
    releases.drop_leftovers(places)
    known = _known(places, journal)
    if known.trial is None:
        return _settle(places, known, journal, app_runs)
    if trial.is_live(known.trial) and not end_trial:
        return Result("trial", known.trial.release)
    return _roll_back(places, known, journal, app_runs)


def confirm(places: Places, release: str, journal: Journal) -> Result:
    """Where the app is, now that the host has seen `release` answer. The caller holds the lock.

    Raises:
        Refusal: of kind `no-trial`: it is not in trial.
    """
    known = _known(places, journal)
    if known.trial is None and known.committed == release:
        return Result("committed", release)
    if known.trial is None or known.trial.release != release:
        raise Refusal(
            "no-trial",
            f"{release} is not in trial; committed is {known.committed or 'nothing'}",
            "flash it again",
        )
    if not trial.is_live(known.trial):
        result = _roll_back(places, known, journal, app_runs=True)
        late = Refusal("unconfirmed", "the confirmation came after the trial's end", "flash again")
        return result if result.error else result._replace(error=late)
    try:
        return committed(places, known, journal)
    except OSError as error:
        return give_up(places, journal, release, durable.refusal(error))


def committed(places: Places, proven: State, journal: Journal) -> Result:
    """The trial is over, and well; what cannot be cleared away now is cleared away by the next recovery."""
    now = trial.commit(places, proven, journal)
    try:
        trial.finish(places, now)
        agents.clean(places)
        journal.shorten()
    # The release is committed, whatever lies about.
    except Exception as error:
        journal.note("not-cleared-away", cause=_cause(error))
    return Result("committed", now.committed)


def give_up(places: Places, journal: Journal, release: str, why: Refusal) -> Result:
    """Where the app is, after `why` came in between while `release` was armed, switched to, or committed. The caller holds the lock."""
    try:
        result = recover(places, journal, end_trial=True)
    except (OSError, Refusal) as another:
        cause = f"{why.cause}; going back failed too: {_cause(another)}"
        fix = "the timer, the next boot and the next flash try again; look at the board's disk"
        return Result("stuck", releases.linked(places.current), Refusal("stuck", cause, fix))
    if result.outcome == "stuck":
        return result
    if result.outcome == "unchanged":
        # The state had not been written yet, or was written already.
        if result.release == release:
            return Result("committed", release)
        return Result("failed", result.release, why)
    return Result("rolled-back", result.release, why)


def step_back(places: Places, journal: Journal) -> Result:
    """Back to `previous`, as a person asks; out of a trial, back to what is committed. The caller holds the lock.

    Raises:
        Refusal: there is no previous release, it is not whole, or does not answer. Nothing was switched.
    """
    first = recover(places, journal, end_trial=True)
    known = _known(places, journal)
    if first.outcome == "rolled-back" or (first.outcome == "stuck" and known.previous is None):
        return first
    if known.previous is None:
        raise Refusal("no-previous", f"{places.app} has no previous release", "flash one")
    releases.check(places, known.previous)
    probe.golden(places.release(known.previous), places.engines, _options(known))
    journal.note("rollback", release=known.previous)
    after = known._replace(committed=known.previous, previous=None, stuck=None)
    trial.lay_state(places, after)
    releases.point_back(places, known.previous)
    trial.close(places, after)
    return _gone_back(places, after, journal, app_runs=True)


def _known(places: Places, journal: Journal) -> State:
    """The state; where its file is gone or spoilt, the one that was laid for the way back, or what the links say."""
    for path in (places.state, places.state_back):
        try:
            known = state.read(places, path)
        except Refusal as refusal:
            journal.note("state-lost", cause=refusal.cause)
            continue
        if known is not None:
            return known
    current, previous = releases.linked(places.current), releases.linked(places.previous)
    if current is None:
        return State()
    if not releases.is_whole(places, current) and releases.is_whole(places, previous):
        current, previous = previous, None
    found = State(current, previous, int((current or "0").split("-")[0]))
    state.write(places, found)
    return found


def _settle(places: Places, known: State, journal: Journal, app_runs: bool) -> Result:
    """No trial is under way: the links follow the state, if what it names is whole."""
    trial.drop_way_back(places)
    if known.committed is None:
        releases.point(places.current, None)
        return Result("unchanged", None)
    if releases.is_whole(places, known.committed):
        releases.point(places.current, known.committed)
        releases.point(places.previous, known.previous)
        return _answers_again(places, known, journal)
    cause = f"{known.committed} is damaged on the disk"
    if known.stuck is not None or not releases.is_whole(places, known.previous):
        return _stuck(places, known, known.stuck or f"{cause}, and there is no other", journal)
    assert known.previous is not None
    releases.point_back(places, known.previous)
    after = known._replace(committed=known.previous, previous=None)
    state.write(places, after)
    result = _gone_back(places, after, journal, app_runs=app_runs)
    return result if result.error else result._replace(error=_damaged(cause))


def _answers_again(places: Places, known: State, journal: Journal) -> Result:
    """The committed release is whole. If the app was stuck on it, it is so until it answers."""
    if known.stuck is None:
        return Result("unchanged", known.committed)
    try:
        _answer(places, known.committed, _options(known), app_runs=False)
    except Exception:
        return _stuck(places, known, known.stuck, journal)
    state.write(places, known._replace(stuck=None))
    journal.note("answers-again", release=known.committed)
    return Result("unchanged", known.committed)


def _roll_back(places: Places, known: State, journal: Journal, app_runs: bool) -> Result:
    """Out of a trial, back to what was committed, restarted and probed."""
    ended = known.trial
    assert ended is not None
    back = known.committed
    if back is not None and not releases.is_whole(places, back):
        cause = f"{ended.release} failed, and {back}, to which to go back, is damaged on the disk"
        return _stuck(places, known, cause, journal)
    trial.go_back(places, known)
    after = known._replace(trial=None)
    try:
        _answer(places, back, ended.options, app_runs=app_runs)
    except Exception as error:
        cause = f"{ended.release} failed, and {back} does not answer either: {_cause(error)}"
        return _stuck(places, known, cause, journal)
    trial.close(places, after)
    why = Refusal("unproven", f"{ended.release} was not confirmed", "look at it, flash again")
    _ended(journal, ended, "rolled-back", back, why)
    return Result("rolled-back", back)


def _gone_back(places: Places, after: State, journal: Journal, *, app_runs: bool) -> Result:
    """The outcome of having gone back to what is committed now: it answers, or the app is stuck."""
    try:
        _answer(places, after.committed, _options(after), app_runs=app_runs)
    except Exception as error:
        cause = f"{after.committed} does not answer: {_cause(error)}"
        return _stuck(places, after, cause, journal)
    journal.note("rolled-back", release=after.committed)
    return Result("rolled-back", after.committed)


def _answer(
    places: Places, release: str | None, options: dict[str, Any], *, app_runs: bool
) -> None:
    """Nothing, once the app was restarted, if it runs, and the release answers."""
    if release is None:
        # Nothing is left to run: that its unit does not start now is as it should be.
        with contextlib.suppress(Refusal):
            if app_runs:
                probe.restart(options)
        return
    if app_runs:
        probe.restart(options)
    probe.golden(places.release(release), places.engines, options)
    if app_runs:
        probe.probes(options)


def _stuck(places: Places, known: State, cause: str, journal: Journal) -> Result:
    """Stop, and say so: in the state, so that nothing tries again by itself, and once in the journal."""
    current, why = releases.linked(places.current), Refusal("stuck", cause, _NEEDED)
    if known.stuck != cause or known.trial is not None:
        state.write(places, known._replace(stuck=cause, trial=None))
        if known.trial is not None:
            _ended(journal, known.trial, "stuck", current, why)
        else:
            journal.note("stuck", cause=cause)
    return Result("stuck", current, why)


def _ended(journal: Journal, ended: Trial, outcome: str, release: str | None, why: Refusal) -> None:
    error = {"kind": why.kind, "cause": why.cause, "fix": why.fix}
    journal.of(ended.flash_id).ended(outcome, release, state="TRIAL", error=error)


def _options(known: State) -> dict[str, Any]:
    return conversation.Options()._asdict() if known.options is None else known.options


def _damaged(cause: str) -> Refusal:
    return Refusal("files", cause, "flash it again, and look at the board's disk")


def _cause(error: Exception) -> str:
    return durable.as_refusal(error).cause
