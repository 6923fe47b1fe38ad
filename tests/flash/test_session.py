"""One board's flash against an SSH server in this process, with the fake agent: what crosses the link, and what happens if it breaks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from edgepack.flash.options import FlashOptions
from edgepack.flash.payload import opened, own_agent
from edgepack.flash.progress import FlashProgress
from edgepack.flash.report import BoardResult
from edgepack.flash.session import Session
from tests.flash.boards import Cable, LocalBoard
from tests.flash.bundles import APP, make, some_bytes, trusted
from tests.flash.conftest import host_of


def flash(
    board: LocalBoard,
    bundle: Path,
    *,
    port: int | None = None,
    progress: FlashProgress | None = None,
    **options: Any,
) -> BoardResult:
    """Flash one board and give what became of it."""
    given = FlashOptions(**{"patience_s": 10.0, **options})
    with trusted(bundle) as payload:
        session = Session(host_of(board, port), payload, given, progress or FlashProgress())
        return asyncio.run(session.run())


def tell(board: LocalBoard, **orders: Any) -> None:
    """Tell the fake agent what to do."""
    (board.root / APP).mkdir(exist_ok=True)
    (board.root / APP / "fake.json").write_text(json.dumps(orders))


def payload_size(bundle: Path) -> int:
    listed = json.loads((bundle / "manifest.json").read_text())["files"]
    return sum(f["size"] for f in {f["sha256"]: f for f in listed}.values())


def test_a_flash_sends_every_file_once_and_ends_committed(board: LocalBoard, bundle: Path) -> None:
    result = flash(board, bundle)
    assert (result.outcome, result.links) == ("committed", 1), result.error
    assert result.sent_bytes == payload_size(bundle)
    assert result.report == {"median_ms": 1.5}
    assert (board.root / APP / "current.txt").read_text() == result.release
    begin = json.loads((board.root / APP / "begin.json").read_text())
    assert begin["options"] == {
        **{"allow_unsigned": False, "unattended": False, "trial_seconds": 120},
        **{"engine": "auto", "engine_seconds": 1800},
    }


def test_a_second_flash_of_the_same_files_sends_nothing(
    board: LocalBoard, bundle: Path, line: Cable
) -> None:
    flash(board, bundle, port=line.port)
    before = line.sent
    result = flash(board, bundle, port=line.port)
    assert (result.outcome, result.sent_bytes) == ("committed", 0)
    assert before > payload_size(bundle)
    assert line.sent - before < 30_000


def test_a_release_that_shares_files_sends_what_changed(
    board: LocalBoard, bundle: Path, tmp_path: Path
) -> None:
    flash(board, bundle)
    files = {"model/m.onnx": some_bytes(6_000_000), "golden/0/x.bin": b"y" * 99}
    result = flash(board, make(tmp_path / "second", files, seq=2))
    assert (result.outcome, result.sent_bytes) == ("committed", 99)


@pytest.mark.parametrize("percent", [1, 50, 99])
def test_a_link_cut_while_uploading_is_taken_up_where_it_broke(
    board: LocalBoard, bundle: Path, line: Cable, percent: int
) -> None:
    size = payload_size(bundle)
    line.at(size * percent // 100 + 20_000, line.cut)
    result = flash(board, bundle, port=line.port)
    assert (result.outcome, result.links) == ("committed", 2), result.error
    # Lost is at most what was under way; the rest was taken up where it broke.
    assert line.sent < size + 2_300_000
    begun = json.loads((board.root / APP / "offsets.json").read_text())
    assert len(begun) == 2
    assert max(begun[1]) > size * percent // 100 - 2_300_000


@pytest.mark.parametrize("state", ["LOCK", "PREFLIGHT", "UPLOAD", "STAGE", "SWITCH", "TRIAL"])
def test_a_link_that_breaks_at_any_state_ends_in_the_release_all_the_same(
    board: LocalBoard, bundle: Path, state: str
) -> None:
    class Dropping(FlashProgress):
        dropped = False

        def state(self, name: str, now: str, detail: str = "") -> None:
            if now == state and not self.dropped:
                self.dropped = True
                board.drop()

    result = flash(board, bundle, progress=Dropping())
    assert result.outcome == "committed", result.error
    assert result.links > 1
    assert (result.state, result.report) == ("COMMIT", {"median_ms": 1.5})
    assert (board.root / APP / "current.txt").read_text() == result.release


@pytest.mark.parametrize("state", ["PREFLIGHT", "UPLOAD", "STAGE"])
def test_an_agent_that_is_killed_is_begun_again(
    board: LocalBoard, bundle: Path, state: str
) -> None:
    tell(board, die_at=state)
    result = flash(board, bundle)
    assert (result.outcome, result.links) == ("committed", 2), result.error


def test_a_refusal_is_the_boards_own_words_without_their_control_characters(
    board: LocalBoard, bundle: Path
) -> None:
    error = {"kind": "board", "cause": "this is a \033[31mNano\033[0m\n", "fix": "use -t nano"}
    tell(board, outcome="refused", error=error)
    result = flash(board, bundle)
    assert (result.outcome, result.state, result.sent_bytes) == ("refused", "PREFLIGHT", 0)
    assert result.error == {**error, "cause": "this is a  [31mNano [0m"}


def test_a_login_shell_that_talks_is_no_agent(board: LocalBoard, bundle: Path) -> None:
    tell(board, nonsense_at="PREFLIGHT")
    result = flash(board, bundle)
    assert result.error is not None
    assert (result.outcome, result.error["kind"]) == ("refused", "agent")
    assert "Welcome to" in result.error["cause"]


def test_an_agent_that_dies_with_a_traceback_is_quoted(board: LocalBoard, bundle: Path) -> None:
    tell(board, exit=3)
    result = flash(board, bundle, patience_s=0)
    assert result.error is not None
    assert result.outcome == "unreachable"
    assert "exit code 3: Traceback: it broke" in result.error["cause"]


def test_an_agent_that_always_dies_is_not_tried_for_ever(
    board: LocalBoard, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.flash.session._BACKOFF_S", (0.0,))
    tell(board, exit=3)
    result = flash(board, bundle, patience_s=600)
    assert (result.outcome, result.links) == ("unreachable", 6)


def test_a_lock_that_the_broken_links_agent_still_holds_is_waited_for(
    board: LocalBoard, bundle: Path
) -> None:
    class Dropping(FlashProgress):
        def upload(self, name: str, done: int, total: int) -> None:
            if self.seen == 0:
                error = {"kind": "locked", "cause": "held", "fix": "wait"}
                tell(board, outcome="refused", error=error)
                board.drop()

        def state(self, name: str, now: str, detail: str = "") -> None:
            if now == "RECONNECT":
                self.seen += 1
            if self.seen == 3:
                tell(board)

        seen = 0

    result = flash(board, bundle, progress=Dropping())
    assert (result.outcome, result.links) == ("committed", 4), result.error


def test_nobody_confirms_where_no_new_connection_gets_in(board: LocalBoard, bundle: Path) -> None:
    tell(board, seconds=4)

    class Closing(FlashProgress):
        def state(self, name: str, now: str, detail: str = "") -> None:
            board.lets_in = now != "TRIAL"

    result = flash(board, bundle, progress=Closing())
    assert result.error is not None
    assert (result.outcome, result.error["kind"]) == ("rolled-back", "unconfirmed")
    assert not (board.root / APP / "current.txt").exists()


def test_a_dry_run_asks_and_sends_nothing(board: LocalBoard, bundle: Path) -> None:
    result = flash(board, bundle, dry_run=True)
    assert (result.outcome, result.sent_bytes, result.release) == ("ready", 0, None)
    assert list((board.root / APP / "incoming").iterdir()) == []


def test_an_agent_that_is_there_admits_the_new_one(
    board: LocalBoard, bundle: Path, tmp_path: Path
) -> None:
    flash(board, bundle)
    (old,) = (board.root / "agent").glob("*.pyz")
    (board.root / "agent/current.pyz").symlink_to(old.name)
    newer = make(tmp_path / "newer", {}, seq=2, agent=old.read_bytes() + b"\n")
    # A ZIP archive may have what it likes after its end, for zipimport.
    assert flash(board, bundle).outcome == "committed"
    assert not (board.root / APP / "admitted").exists()
    flash(board, newer)
    admitted = Path((board.root / APP / "admitted").read_text())
    assert admitted.parent == board.root / "agent"
    assert admitted != old


def test_an_agent_that_was_changed_on_the_board_is_not_run(board: LocalBoard, bundle: Path) -> None:
    flash(board, bundle)
    (agent,) = (board.root / "agent").glob("*.pyz")
    data = bytearray(agent.read_bytes())
    data[100] ^= 1
    agent.write_bytes(data)
    result = flash(board, bundle)
    assert result.error is not None
    assert (result.outcome, result.error["kind"]) == ("refused", "agent")
    assert "SHA-256 differs" in result.error["cause"]


def test_a_strangers_agent_is_not_run_on_a_board_that_has_none(
    board: LocalBoard, bundle: Path, tmp_path: Path
) -> None:
    def result(bundle: Path, **options: bool) -> BoardResult:
        with opened(bundle, trust=None, **{"allow_unsigned": False, **options}) as payload:
            session = Session(host_of(board), payload, FlashOptions(**options), FlashProgress())
            return asyncio.run(session.run())

    refused = result(bundle)
    assert refused.error is not None
    assert (refused.outcome, refused.error["kind"]) == ("refused", "trust-file")
    assert (board.commands, list(board.root.iterdir())) == ([], [])
    ours = make(tmp_path / "ours", {}, agent=own_agent())
    refused = result(ours)  # by the board's own rules
    assert refused.error is not None
    assert (refused.state, refused.error["kind"]) == ("PREFLIGHT", "trust-file")
    assert result(bundle, allow_unsigned=True).outcome == "committed"


def test_a_board_without_python_says_so(board: LocalBoard, bundle: Path) -> None:
    board.path = "/nowhere"
    result = flash(board, bundle)
    assert result.error is not None
    assert (result.outcome, result.error["kind"]) == ("refused", "python")


def test_only_a_quoted_list_of_arguments_reaches_the_shell(board: LocalBoard, bundle: Path) -> None:
    evil = ("touch", str(board.root / "pwned; touch $(pwned)"))
    flash(board, bundle, probe=evil, restart=("sh", "-c", "`touch pwned`"))
    begin = json.loads((board.root / APP / "begin.json").read_text())
    assert begin["options"]["probe"] == list(evil)
    assert [c for c in board.commands if "pwned" in c] == []
    assert list(board.root.glob("pwned*")) == []
