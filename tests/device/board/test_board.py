"""The board is one: arm64, users, sshd, and a power cut that leaves what was written."""

from __future__ import annotations

from pathlib import Path

from tests.device.board.board import Board
from tests.device.board.ssh import sshd


def test_it_is_arm64_and_its_user_is_nobody_special() -> None:
    with Board.fresh() as board:
        done = board.run(["sh", "-c", "uname -m; id -un; cd /root || echo refused; exit 7"])
        assert (done.stdout.split(), done.returncode) == (["aarch64", "edge", "refused"], 7)
        assert board.run(["id", "-un"], uid=0).stdout == "root\n"


def test_it_answers_over_ssh_and_keeps_its_files_through_a_power_cut(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "ä b").write_text("x")
    with Board.fresh() as board:
        with sshd(board) as remote:
            assert remote.run("uname -m; whoami").stdout.split() == ["aarch64", "edge"]
            assert remote.run("whoami; exit 3", user="root").returncode == 3
            remote.put(tmp_path / "bundle", "bundle")
            assert remote.run("cat 'bundle/ä b'; touch kept").stdout == "x"
            assert remote.run('python3 -c "import numpy"').returncode == 0
            remote.cut_power()
            assert remote.run("true").returncode == 255
        assert board.run(["ls"]).stdout.split() == ["bundle", "kept"]
    with Board.fresh() as other:
        assert other.run(["ls"]).stdout == ""
