"""What is committed, and the trial under way: `state.json`, replaced whole, never edited."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from edgepack_agent import durable
from edgepack_agent.places import Places, is_release
from edgepack_trust import Refusal

_SCHEMA = 1
#: A trial's phases: until the board's probes passed; from then on it is the host's to confirm.
ARMED, WAITING = "armed", "waiting"


class Trial(NamedTuple):
    """A release that may be current, and is to be proven.

    `deadline` is in seconds since boot, of the boot `boot_id`; `options` are those of the flash.
    """

    release: str
    flash_id: str
    by: str
    boot_id: str
    deadline: float
    phase: str
    options: dict[str, Any]


class State(NamedTuple):
    """What an app on this board is at.

    `options` are those of the flash that was committed last: how to restart and probe the app. `stuck` says why a person is needed.
    """

    committed: str | None = None
    previous: str | None = None
    min_seq: int = 0
    options: dict[str, Any] | None = None
    trial: Trial | None = None
    stuck: str | None = None


def read(places: Places, path: str | None = None) -> State | None:
    """What state.json says, or another file of its form; None if there is none.

    Raises:
        Refusal: of kind `state`: it is not what `write` writes.
    """
    try:
        with open(path or places.state, "rb") as file:
            data = file.read(1 << 20)
    except FileNotFoundError:
        return None
    try:
        return _parsed(json.loads(data))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise Refusal(
            "state",
            f"{path or places.state} cannot be read: {error}",
            "run the order `recover`: it takes the state from what is on the disk",
        ) from error


def as_json(state: State) -> bytes:
    """The state as its file has it."""
    fields = dict(state._asdict(), schema=_SCHEMA)
    if state.trial is not None:
        fields["trial"] = state.trial._asdict()
    return json.dumps(fields, sort_keys=True).encode() + b"\n"


def write(places: Places, state: State) -> None:
    """Make `state` the one, lastingly."""
    durable.write(places.state, as_json(state))


def _parsed(data: Any) -> State:
    if data.pop("schema") != _SCHEMA:
        raise ValueError("its schema is not known")
    state = State(**data)
    if state.trial is not None:
        trial = Trial(**data["trial"])
        if not is_release(trial.release) or not isinstance(trial.options, dict):
            raise ValueError("its trial is none")
        float(trial.deadline)
        state = state._replace(trial=trial)
    named = [name for name in (state.committed, state.previous) if name is not None]
    if not all(is_release(name) for name in named) or type(state.min_seq) is not int:
        raise ValueError("it names no releases")
    if not isinstance(state.options, (dict, type(None))):
        raise ValueError("its options are none")
    return state
