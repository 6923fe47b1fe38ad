"""A board that runs release 1, and release 2 to flash to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.agent.board import Board, without_timer
from tests.agent.bundles import release, trust
from tests.agent.scenes import Scene


@pytest.fixture(scope="session")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 1."""
    return release(tmp_path_factory.mktemp("old"), 1)


@pytest.fixture(scope="session")
def new(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Release 2."""
    return release(tmp_path_factory.mktemp("new"), 2)


@pytest.fixture(scope="session")
def flashed(tmp_path_factory: pytest.TempPathFactory, old: Path) -> Board:
    """A board on which release 1 is committed; copy it."""
    board = Board(root=tmp_path_factory.mktemp("board") / "root")
    ended = board.flash(old, trust_file=trust())
    assert ended.outcome == "committed", ended.done
    return board


@pytest.fixture(scope="session")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Stories to cut off."""
    return Scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def board(flashed: Board, tmp_path: Path) -> Board:
    """A board that runs release 1."""
    return flashed.copy(tmp_path / "root")


@pytest.fixture
def quiet(board: Board) -> Board:
    """The same; its flashes start no timer."""
    board.patches.append(without_timer)
    return board


@pytest.fixture
def bare(tmp_path: Path) -> Board:
    """A board to which nothing was flashed yet."""
    return Board(root=tmp_path / "root")
