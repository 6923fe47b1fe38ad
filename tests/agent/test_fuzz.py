"""Whatever stands in state.json, or comes from the host: it is understood or refused, never a crash."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack_agent import conversation, journal, papers, state
from edgepack_trust import Refusal
from tests.agent.board import Board, begin

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=8,
)
QUICK = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
STATE: dict[str, Any] = {
    "schema": 1,
    "committed": "2-0123456789ab",
    "previous": "1-0123456789ab",
    "min_seq": 2,
    "options": {},
    "stuck": None,
    "trial": {
        "release": "3-0123456789ab",
        "flash_id": "x",
        "by": "ada",
        "boot_id": "x",
        "deadline": 1.5,
        "phase": "armed",
        "options": {},
    },
}


def changed(message: dict[str, Any], path: list[str], value: Any) -> dict[str, Any]:
    """The message with one field replaced, at that path of it."""
    copy = json.loads(json.dumps(message))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return dict(copy)


PATHS = [[k] for k in STATE] + [["trial", k] for k in STATE["trial"]]


@QUICK
@given(path=st.sampled_from(PATHS), value=JSON)
def test_a_state_is_read_or_refused(board: Board, path: list[str], value: Any) -> None:
    file = board.folder / "state.json"
    file.write_text(json.dumps(changed(STATE, path, value)))
    with contextlib.suppress(Refusal):
        read = state.read(board.places)
        assert read is not None
        # What was read can be written, and is the same again.
        state.write(board.places, read)
        again = state.read(board.places)
        assert state.as_json(again or state.State()) == state.as_json(read)


@QUICK
@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_a_state_of_any_bytes_is_refused(board: Board, data: bytes) -> None:
    (board.folder / "state.json").write_bytes(data)
    with pytest.raises(Refusal, match="cannot be read"):
        state.read(board.places)


@QUICK
@given(
    lines=st.lists(st.binary(max_size=30) | JSON.map(lambda v: json.dumps(v).encode()), max_size=6)
)
def test_a_journal_of_any_bytes_is_read(board: Board, lines: list[bytes]) -> None:
    (board.folder / "journal.jsonl").write_bytes(b"\n".join(lines))
    assert all(isinstance(event, dict) for event in journal.read(board.places))
    journal.last(board.places)
    journal.Journal(board.places, None, "a test").add("event")
    assert journal.read(board.places)[-1]["event"] == "event"


@pytest.fixture(scope="module")
def message(new: Path) -> dict[str, Any]:
    return begin(new)


@QUICK
@given(data=st.data(), value=JSON)
def test_a_beginning_is_understood_or_refused(
    message: dict[str, Any], data: st.DataObject, value: Any
) -> None:
    name = data.draw(st.sampled_from([*message, *conversation.Options._fields]))
    path = [name] if name in message else ["options", name]
    with contextlib.suppress(Refusal):
        begun = conversation.read_begin(changed(message, path, value))
        assert begun.manifest


@QUICK
@given(at=st.integers(0), bit=st.integers(0, 7), where=st.sampled_from(["manifest", "signature"]))
def test_no_changed_bit_of_a_bundles_papers_is_accepted(
    board: Board, message: dict[str, Any], at: int, bit: int, where: str
) -> None:
    begun = conversation.read_begin(message)
    data = bytearray(getattr(begun, where))
    data[at % len(data)] ^= 1 << bit
    known = state.read(board.places) or state.State()
    with pytest.raises(Refusal):
        papers.examine(board.places, begun._replace(**{where: bytes(data)}), known)


@QUICK
@given(line=st.binary(max_size=80).filter(lambda b: b"\n" not in b))
def test_a_line_of_any_bytes_is_a_message_or_refused(line: bytes) -> None:
    reader, writer = os.pipe()
    try:
        os.write(writer, line + b"\n")
        with contextlib.suppress(Refusal):
            assert isinstance(conversation.Channel(reader).hear(1), dict)
    finally:
        os.close(reader)
        os.close(writer)
