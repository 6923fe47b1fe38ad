"""A flash that goes well, one that does not, and what each leaves on the board."""

from __future__ import annotations

from pathlib import Path

from edgepack.trust.signature import sign
from tests.agent.board import Board, name_of
from tests.agent.bundles import release, trust
from tests.trust.bundles import key


def test_a_first_flash_ends_committed_and_answers(bare: Board, old: Path) -> None:
    ended = bare.flash(old, trust_file=trust())
    assert ended.outcome == "committed", ended.done
    assert bare.current() == name_of(old)
    assert bare.previous() is None
    assert bare.answers()
    assert (bare.folder / "trust.json").read_bytes() == trust()


def test_a_second_release_becomes_current_and_the_first_previous(
    board: Board, old: Path, new: Path
) -> None:
    ended = board.flash(new)
    assert ended.outcome == "committed", ended.done
    assert (board.current(), board.previous()) == (name_of(new), name_of(old))
    assert board.answers()


def test_a_release_that_misses_its_golden_answers_is_never_switched_to(
    board: Board, old: Path, tmp_path: Path
) -> None:
    ended = board.flash(release(tmp_path / "b", 2, does="miss"))
    assert (ended.outcome, ended.done["state"]) == ("failed", "PROBE")
    assert board.current() == name_of(old)


def test_an_unchanged_bundle_is_answered_without_asking_for_a_byte(board: Board, old: Path) -> None:
    before = board.state()
    ended = board.flash(old)
    assert ended.outcome == "unchanged", ended.done
    assert not [m for m in ended.messages if m["type"] == "need"]
    assert "SWITCH" not in ended.states
    assert board.state() == before


def test_a_release_that_is_signed_anew_is_unchanged_and_takes_the_signature(
    bare: Board, tmp_path: Path
) -> None:
    bundle = release(tmp_path / "b", 1, by=None)
    ended = bare.flash(bundle, trust_file=trust(), allow_unsigned=True)
    assert ended.outcome == "committed", ended.done
    assert not (bare.folder / "current/manifest.sig").exists()
    sign(bundle, key("release"))
    assert bare.flash(bundle).outcome == "unchanged"
    kept = bare.folder / "current/manifest.sig"
    assert kept.read_bytes() == (bundle / "manifest.sig").read_bytes()
    assert bare.answers()


def test_two_releases_of_one_number_may_take_turns(board: Board, old: Path, tmp_path: Path) -> None:
    other = release(tmp_path / "b", 1, more={"other.txt": b"other"})
    assert board.flash(other).outcome == "committed"
    ended = board.flash(old)
    assert (ended.outcome, ended.sent) == ("committed", 0)
    assert (board.current(), board.previous()) == (name_of(old), name_of(other))
    assert board.answers()


def test_a_release_that_shares_files_asks_for_those_that_changed(board: Board, new: Path) -> None:
    ended = board.flash(new)
    (need,) = (m for m in ended.messages if m["type"] == "need")
    assert [f["size"] for f in need["files"]] == [20_000]
    assert need["bytes"] == 20_000
    assert need["have"] > 40_000
