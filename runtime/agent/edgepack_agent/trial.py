"""A trial's life: armed, switched to, waiting for the host; then committed, or gone back from.

The way back is laid before the switch: the link and the state to go back to lie ready beside those in use, so that going back is two
renames and needs no space on the disk.
"""

from __future__ import annotations

import os

from edgepack_agent import clock, durable, engine, incoming, releases, state
from edgepack_agent.journal import Journal
from edgepack_agent.places import Places
from edgepack_agent.state import ARMED, WAITING, State, Trial

#: How long the app's unit and the board's own probes may take, beside what the options say of each.
OWN_PROBES_SECONDS = 300


def armed(release: str, flash_id: str, by: str, options: dict[str, object]) -> Trial:
    """A trial that begins now."""
    seconds = options["trial_seconds"], options["probes"], options["probe_seconds"]
    assert isinstance(seconds[0], int)
    deadline = clock.since_boot() + seconds[0] + OWN_PROBES_SECONDS
    return Trial(release, flash_id, by, clock.boot_id(), deadline, ARMED, options)


def arm(places: Places, before: State, trial: Trial) -> None:
    """Lay the way back, then write that a trial is under way."""
    lay_state(places, before._replace(trial=None))
    durable.remove(places.current_back)
    if before.committed is not None:
        os.symlink(os.path.join("releases", before.committed), places.current_back)
    durable.sync_folder(places.folder)
    state.write(places, before._replace(trial=trial))


def lay_state(places: Places, after: State) -> None:
    """Lay the state ready that `close` is to make the one."""
    durable.fill(places.state_back, state.as_json(after))


def wait(places: Places, armed_state: State) -> Trial:
    """The trial, as the host's to confirm from now on."""
    trial = armed_state.trial
    assert trial is not None
    deadline = clock.since_boot() + trial.options["trial_seconds"]
    trial = trial._replace(phase=WAITING, deadline=deadline)
    state.write(places, armed_state._replace(trial=trial))
    return trial


def is_live(trial: Trial) -> bool:
    """Whether the host may still confirm it."""
    return (
        trial.phase == WAITING
        and trial.boot_id == clock.boot_id()
        and clock.since_boot() < trial.deadline
    )


def commit(places: Places, proven: State, journal: Journal) -> State:
    """The state in which the trial's release is the committed one. From its writing on, nothing goes back by itself."""
    trial = proven.trial
    assert trial is not None
    seq = int(trial.release.split("-")[0])
    previous = proven.previous
    if proven.committed != trial.release:
        previous = proven.committed if proven.stuck is None else None
    committed = State(trial.release, previous, max(proven.min_seq, seq), trial.options)
    state.write(places, committed)
    journal.of(trial.flash_id).ended("committed", trial.release)
    return committed


def finish(places: Places, committed: State) -> None:
    """What follows a commit: `previous`, and the clean-up that keeps two releases."""
    releases.point(places.previous, committed.previous)
    drop_way_back(places)
    stay = [committed.committed, committed.previous]
    releases.clean(places, stay)
    engine.clear(places.engines, [places.report(name) for name in stay if name is not None])
    incoming.clear(places)


def go_back(places: Places, failed: State) -> None:
    """`current` leads to what was committed before the trial, or is gone if nothing was. The state stays."""
    back = failed.committed
    if back is None or releases.linked(places.current) == back:
        releases.point(places.current, back)
    elif releases.linked(places.current_back) == back:
        durable.rename(places.current_back, places.current)
    else:
        releases.point(places.current, back)


def close(places: Places, after: State) -> None:
    """`after` is the state, now that `current` is back: there is no trial in it."""
    if _holds(places.state_back, state.as_json(after)):
        durable.rename(places.state_back, places.state)
    else:
        state.write(places, after)
    drop_way_back(places)


def drop_way_back(places: Places) -> None:
    """Remove what was laid ready for a way back that is not taken any more."""
    durable.remove(places.state_back)
    durable.remove(places.current_back)


def _holds(path: str, data: bytes) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read() == data
    except OSError:
        return False
