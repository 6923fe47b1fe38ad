"""What arrives is not sent again, what is wrong is not believed, and what is of no use goes."""

from __future__ import annotations

import json
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest

from tests.agent.board import Board, Message, begin, content, name_of, send, swift, talk
from tests.agent.bundles import files, release, trust
from tests.agent.cases import seal
from tests.trust.bundles import flip

OWN = sha256(files("2")["model/own.bin"]).hexdigest()
SIZE = 20_000


@pytest.fixture
def board(board: Board) -> Board:
    board.patches.append(swift)
    return board


def part(board: Board, sha: str = OWN) -> Path:
    return board.folder / "incoming" / f"{sha}.part"


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


@pytest.mark.parametrize("percent", [0, 1, 50, 99, 100])
def test_a_dropped_link_resumes_where_it_broke(board: Board, new: Path, percent: int) -> None:
    arrived = SIZE * percent // 100

    def drop(bundle: Path, need: Message) -> None:
        send(bundle, need, until=arrived)
        raise ConnectionError

    child = board.start("flash")
    with pytest.raises(ConnectionError):
        talk(child, new, upload=drop)
    child.wait()
    assert board.current() != name_of(new)
    assert part(board).stat().st_size == arrived

    ended = board.flash(new)
    assert ended.outcome == "committed", ended.done
    assert ended.sent == SIZE - arrived
    assert board.answers()


def test_a_host_that_goes_before_all_was_sent_leaves_nothing_but_what_arrived(
    board: Board, old: Path, new: Path
) -> None:
    child = board.start("flash")
    child.say(begin(new))
    while (child.hear() or {})["type"] != "need":
        pass
    child.hang_up_in()
    done = list(child.hear_all())[-1]
    child.wait()
    assert (done["outcome"], done["state"], done["error"]["kind"]) == (
        "failed",
        "UPLOAD",
        "connection",
    )
    assert board.current() == name_of(old)
    assert board.order("status").done["status"]["last"]["outcome"] == "failed"


def test_a_host_that_is_silent_lets_go_of_the_lock(board: Board, new: Path) -> None:
    def hasty() -> None:
        from edgepack_agent import machine

        machine._SILENCE_SECONDS = 2

    board.patches.append(hasty)
    child = board.start("flash")
    child.say(begin(new))
    while (child.hear() or {})["type"] != "need":
        pass
    for _ in range(5):
        child.say({"type": "alive"})
        time.sleep(0.5)
    child.say({"type": "alive"})
    assert board.order("status").done["status"]["lock"]
    done = list(child.hear_all())[-1]
    child.wait()
    assert done["error"]["kind"] == "connection"
    assert board.order("status").done["status"]["lock"] is None


def test_a_part_that_is_wrong_is_sent_again_from_its_beginning(board: Board, new: Path) -> None:
    put(part(board), b"?" * 10_000)
    ended = board.flash(new)
    assert ended.outcome == "committed", ended.done
    assert [m["bytes"] for m in ended.messages if m["type"] == "need"] == [SIZE - 10_000, SIZE]
    assert board.answers()


def test_a_host_that_never_sends_the_right_bytes_is_given_up(
    board: Board, old: Path, new: Path
) -> None:
    def lie(bundle: Path, need: Message) -> None:
        Path(need["path"]).write_bytes(b"?" * need["size"])

    ended = board.flash(new, upload=lie)
    assert (ended.outcome, ended.kind, ended.done["state"]) == ("failed", "upload", "UPLOAD")
    assert len([m for m in ended.messages if m["type"] == "need"]) == 5
    assert board.current() == name_of(old)
    assert not part(board).exists()


def test_a_host_that_says_uploaded_and_sent_less_is_asked_for_the_rest(
    board: Board, new: Path
) -> None:
    ended = board.flash(
        new, upload=lambda bundle, need: send(bundle, need, until=need["offset"] + 5_000)
    )
    assert ended.outcome == "committed", ended.done
    assert [m["bytes"] for m in ended.messages if m["type"] == "need"] == [
        20_000,
        15_000,
        10_000,
        5_000,
    ]


def test_a_host_that_says_something_else_is_refused(board: Board, old: Path, new: Path) -> None:
    child = board.start("flash")
    child.say(begin(new))
    child.say({"type": "confirm"})
    done = list(child.hear_all())[-1]
    child.wait()
    assert (done["outcome"], done["error"]["kind"]) == ("failed", "protocol")
    assert board.current() == name_of(old)


def test_a_part_that_is_too_long_goes(board: Board, new: Path) -> None:
    put(part(board), content(new, OWN) + b"more")
    ended = board.flash(new)
    assert (ended.outcome, ended.sent) == ("committed", SIZE)


def test_a_part_that_is_a_link_is_not_followed(board: Board, new: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    part(board).parent.mkdir(exist_ok=True)
    part(board).symlink_to(precious)
    ended = board.flash(new)
    assert (ended.outcome, ended.sent) == ("committed", SIZE)
    assert precious.read_bytes() == b"mine"


def test_a_part_that_is_a_folder_goes(board: Board, new: Path) -> None:
    put(part(board).parent / "x", b"")
    part(board).mkdir()
    (part(board) / "file").write_text("x")
    ended = board.flash(new)
    assert ended.outcome == "committed", ended.done


def test_parts_of_other_releases_go_when_an_upload_begins(board: Board, new: Path) -> None:
    put(part(board, "0" * 64), b"half")
    put(part(board).parent / ("1" * 64), b"whole, as it says")
    put(part(board).parent / "notes.txt", b"")
    seen: list[str] = []

    def look(bundle: Path, need: Message) -> None:
        seen.extend(sorted(os.listdir(part(board).parent)))
        send(bundle, need)

    assert board.flash(new, upload=look).outcome == "committed"
    assert seen == []
    assert os.listdir(part(board).parent) == []


def test_parts_of_other_releases_stay_when_a_flash_is_refused(board: Board, tmp_path: Path) -> None:
    put(part(board, "0" * 64), b"half")
    assert board.flash(release(tmp_path / "b", 2, by=None)).outcome == "refused"
    assert part(board, "0" * 64).exists()


def test_a_file_that_arrived_whole_and_was_damaged_since_is_sent_again(
    board: Board, new: Path
) -> None:
    put(part(board).with_suffix(""), b"?" * SIZE)
    ended = board.flash(new)
    assert (ended.outcome, ended.sent) == ("committed", SIZE)
    assert board.answers()


def test_a_file_of_another_release_that_was_damaged_is_sent_again(
    board: Board, old: Path, new: Path, tmp_path: Path
) -> None:
    assert board.flash(new).outcome == "committed"
    for name in (name_of(old), name_of(new)):
        flip(board.folder / "releases" / name / "model/shared.bin")
    ended = board.flash(release(tmp_path / "b", 3))
    assert ended.outcome == "committed", ended.done
    assert ended.sent == 40_000 + SIZE
    assert board.answers()


def test_no_release_shares_a_file_with_another(board: Board, old: Path, new: Path) -> None:
    assert board.flash(new).outcome == "committed"
    links = [p.stat().st_nlink for p in (board.folder / "releases").rglob("*") if p.is_file()]
    assert len(links) == 14
    assert set(links) == {1}


def test_a_release_is_readable_by_an_app_that_runs_as_somebody_else(
    board: Board, new: Path
) -> None:
    def strict() -> None:
        os.umask(0o077)

    board.patches.append(strict)
    assert board.flash(new).outcome == "committed"
    for path in (board.folder / "current" / ".").rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644), path


def test_two_files_of_one_content_are_sent_once(board: Board, tmp_path: Path) -> None:
    twins = {"a.bin": b"twin" * 1000, "b/c.bin": b"twin" * 1000}
    bundle = release(tmp_path / "b", 2, more=twins)
    ended = board.flash(bundle)
    assert (ended.outcome, ended.sent) == ("committed", SIZE + 4000)
    assert board.answers()


def test_the_first_trust_file_is_kept_and_a_sealed_one_takes_its_place(
    board: Board, new: Path
) -> None:
    assert (board.folder / "trust.json").read_bytes() == trust()
    ended = board.flash(new, trust_file=seal(min_release_seq={"digits": 2})())
    assert ended.outcome == "committed", ended.done
    data = json.loads((board.folder / "trust.json").read_bytes())
    assert (data["version"], data["min_release_seq"]) == (4, {"digits": 2})
    assert board.flash(new, trust_file=trust()).kind == "trust-file"
    assert board.flash(new, trust_file=seal(min_release_seq={"digits": 2})()).outcome == "unchanged"
