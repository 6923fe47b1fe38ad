"""Write aside, then rename."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from edgepack.errors import OutputError
from edgepack.workspace import publish, refuse_existing, workspace


def tree(folder: Path) -> dict[str, str]:
    """Every file below `folder` with its text."""
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def folder_with(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "file").write_text(text)
    return path


# workspace


def test_a_workspace_is_hidden_inside_the_output_and_goes(tmp_path: Path) -> None:
    with workspace(tmp_path / "a" / "b") as folder:
        assert folder.parent == tmp_path / "a" / "b"
        assert folder.name.startswith(".edgepack-")
        (folder / "half").write_text("written")
        (tmp_path / "a" / "b" / "kept").write_text("result")
    assert tree(tmp_path) == {"a/b/kept": "result"}
    assert os.listdir(tmp_path / "a" / "b") == ["kept"]


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_after_an_error_nothing_is_left_not_even_the_folders_it_made(
    tmp_path: Path, raised: type[BaseException]
) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("written")
        raise raised

    with pytest.raises(raised), workspace(tmp_path / "a" / "b") as folder:
        fail(folder)
    assert os.listdir(tmp_path) == []


def test_folders_that_were_there_stay(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with workspace(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == ["a"]


def test_a_place_below_a_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(OutputError, match=r"cannot write .*file"),
        workspace(tmp_path / "file" / "a"),
    ):
        pass
    with pytest.raises(OutputError, match=r"cannot write .*file"), workspace(tmp_path / "file"):
        pass
    assert tree(tmp_path) == {"file": "x"}


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_a_full_disk(tmp_path: Path, code: int) -> None:
    with pytest.raises(OutputError, match="is full") as caught, workspace(tmp_path):
        raise OSError(code, os.strerror(code))
    assert str(tmp_path) in caught.value.cause
    assert os.listdir(tmp_path) == []


def test_a_full_disk_for_temporary_files_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", "/")
    monkeypatch.setattr(
        shutil, "disk_usage", lambda p: usage._replace(free=0 if str(p) == "/" else 1 << 30)
    )
    with (
        pytest.raises(OutputError, match="the disk under / is full") as caught,
        workspace(tmp_path),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "TMPDIR" in caught.value.fix


def test_who_ends_it_while_it_cleans_up_finds_it_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def ended_meanwhile(*args: object, **options: object) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(*args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(shutil, "rmtree", ended_meanwhile)
    with pytest.raises(KeyboardInterrupt), workspace(tmp_path / "out") as folder:
        (folder / "half").write_text("written")
    assert os.listdir(tmp_path) == []


# refuse_existing


def test_everything_that_is_in_the_way_is_listed(tmp_path: Path) -> None:
    there, link, free = tmp_path / "there", tmp_path / "link", tmp_path / "free"
    there.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError) as caught:
        refuse_existing([there, free, link], overwrite=False)
    assert str(there) in caught.value.cause
    assert str(link) in caught.value.cause
    assert str(free) not in caught.value.cause
    assert "--overwrite" in caught.value.fix
    refuse_existing([there, free, link], overwrite=True)


# publish


def test_publish_moves_all_and_puts_the_old_aside(tmp_path: Path) -> None:
    pairs = [
        (folder_with(tmp_path / f"new-{i}", f"new {i}"), tmp_path / f"final-{i}") for i in range(2)
    ]
    folder_with(tmp_path / "final-1", "old")
    (tmp_path / "aside").mkdir()
    publish(pairs, aside=tmp_path / "aside")
    assert tree(tmp_path) == {
        "final-0/file": "new 0",
        "final-1/file": "new 1",
        "aside/replaced-1/file": "old",
    }


def test_publish_takes_all_back_when_the_second_rename_fails(tmp_path: Path) -> None:
    first = folder_with(tmp_path / "new-0", "new")
    folder_with(tmp_path / "final-0", "old 0")
    folder_with(tmp_path / "final-1", "old 1")
    (tmp_path / "aside").mkdir()
    before = tree(tmp_path)
    pairs = [(first, tmp_path / "final-0"), (tmp_path / "missing", tmp_path / "final-1")]
    with pytest.raises(FileNotFoundError):
        publish(pairs, aside=tmp_path / "aside")
    assert tree(tmp_path) == before
    assert os.listdir(tmp_path / "aside") == []


def test_publish_takes_back_what_had_no_predecessor(tmp_path: Path) -> None:
    first = folder_with(tmp_path / "new-0", "new")
    before = tree(tmp_path)
    with pytest.raises(FileNotFoundError):
        publish([(first, tmp_path / "final-0"), (tmp_path / "no", tmp_path / "b")], aside=tmp_path)
    assert tree(tmp_path) == before
    assert not (tmp_path / "final-0").exists()


def test_a_failed_publish_in_a_workspace_leaves_the_old_in_place(tmp_path: Path) -> None:
    folder_with(tmp_path / "out" / "final-0", "old")
    finals = [tmp_path / "out" / f"final-{i}" for i in range(2)]
    with pytest.raises(OutputError), workspace(tmp_path / "out") as aside:
        publish([(folder_with(aside / "new", "new"), finals[0]), (aside / "no", finals[1])], aside)
    assert tree(tmp_path) == {"out/final-0/file": "old"}


def test_publish_replaces_a_file_and_a_link(tmp_path: Path) -> None:
    (tmp_path / "aside").mkdir()
    (tmp_path / "new.onnx").write_text("new")
    (tmp_path / "final.onnx").symlink_to("elsewhere")
    publish([(tmp_path / "new.onnx", tmp_path / "final.onnx")], aside=tmp_path / "aside")
    assert not (tmp_path / "final.onnx").is_symlink()
    assert (tmp_path / "final.onnx").read_text() == "new"


def test_who_ends_it_while_it_publishes_finds_what_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [(folder_with(tmp_path / f"new-{i}", f"{i}"), tmp_path / f"final-{i}") for i in (0, 1)]
    folder_with(tmp_path / "final-1", "old")
    (tmp_path / "aside").mkdir()
    before, rename = tree(tmp_path), os.rename

    def ended_meanwhile(old: Path, new: Path) -> None:
        rename(old, new)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(os, "rename", ended_meanwhile)
    with pytest.raises(KeyboardInterrupt):
        publish(pairs, aside=tmp_path / "aside")
    assert tree(tmp_path) == before
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
