"""The command line, called in this process or in one of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import edgepack
from edgepack.cli.app import main
from tests.models import conv_model, images, write


@dataclass(frozen=True, kw_only=True)
class Done:
    """What a call left."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout, which must be one JSON document."""
        return json.loads(self.out)


Command = Callable[..., Done]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """Runs `edgepack` with the given arguments in this process, from `main` on."""
    handler = signal.getsignal(signal.SIGTERM)

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["edgepack", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, err = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return Done(code=end.value.code, out=out, err=err)

    monkeypatch.setenv("COLUMNS", "200")
    yield call
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small ONNX model."""
    return write(conv_model(), tmp_path / "tiny.onnx")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An Android bundle. Copy it (`bundle`) before you change it."""
    folder = tmp_path_factory.mktemp("built")
    source = write(conv_model(), folder / "tiny.onnx")
    (result,) = edgepack.build(
        source, targets=["android"], output_dir=folder, calibration=images(20)
    )
    return result.bundle


@pytest.fixture
def bundle(built: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(built, tmp_path / built.name))


def content(folder: Path) -> dict[str, bytes]:
    """Every file below `folder`, hidden ones too."""
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def in_private_mounts(script: str, *arguments: object) -> str:
    """What a Python script printed that may mount what it likes: nobody else sees it, and it goes with the process.

    Skipped where this machine forbids that; failed in CI.
    """
    ways = (["unshare", "-rm"], ["unshare", "-m"], ["sudo", "-n", "unshare", "-m"])
    probe = ["mount", "-t", "tmpfs", "none", "/mnt"]
    for way in ways:
        if (
            shutil.which(way[0])
            and not subprocess.run([*way, *probe], capture_output=True).returncode
        ):
            break
    else:
        why = "this machine lets nobody mount a tmpfs in a private namespace (unshare -rm)"
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    done = subprocess.run(
        [*way, sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
