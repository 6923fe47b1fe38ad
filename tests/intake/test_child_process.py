"""The child process in which TensorFlow runs, with stand-ins for TensorFlow that do what ours must survive."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from edgepack.errors import EnvironmentMissing, ModelError
from edgepack.intake.source import open_source
from edgepack.proc import Worker, WorkerDied, run
from tests.intake.standins import is_running, keras_file, tensorflow_that


def worker(script: str, folder: Path) -> Worker:
    return Worker([sys.executable, "-c", script], log_path=folder / "log", environment={})


_ECHO = "import sys\nfor line in sys.stdin: print(line, end='', flush=True)"


def test_a_worker_answers_each_request(tmp_path: Path) -> None:
    child = worker(_ECHO, tmp_path)
    try:
        for i in range(3):
            child.send({"number": i})
            assert child.receive() == {"number": i}
    finally:
        child.close()


def test_a_dead_worker_is_an_error_with_its_exit_and_last_words(tmp_path: Path) -> None:
    child = worker("import sys; print('ouch', file=sys.stderr); sys.exit(3)", tmp_path)
    with pytest.raises(WorkerDied) as caught:
        child.receive()
    assert caught.value.returncode == 3
    assert "ouch" in caught.value.log
    child.close()


def test_sending_to_a_dead_worker_is_the_same_error(tmp_path: Path) -> None:
    child = worker("pass", tmp_path)
    with pytest.raises(WorkerDied):
        child.receive()
    with pytest.raises(WorkerDied):
        child.send({"fill": "x" * 1_000_000})
    child.close()


def test_close_ends_a_worker_that_hangs_and_what_it_started(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('{\"pid\": %d}' % p.pid, flush=True)\n"
        "time.sleep(60)"
    )
    child = worker(script, tmp_path)
    grandchild = child.receive()["pid"]
    begun = time.monotonic()
    child.close()
    assert time.monotonic() - begun < 5
    deadline = time.monotonic() + 5
    while is_running(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(grandchild)
    child.close()


def test_run_gives_exit_code_and_both_streams(tmp_path: Path) -> None:
    script = (
        "import os, sys; print(os.getcwd()); print(os.environ['X'], file=sys.stderr); sys.exit(4)"
    )
    done = run([sys.executable, "-c", script], cwd=tmp_path, timeout_s=30, environment={"X": "why"})
    assert (done.returncode, done.stdout.strip(), done.stderr.strip()) == (4, str(tmp_path), "why")


def test_run_names_a_program_that_is_missing_or_hangs(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentMissing, match="no-such-program is not on PATH"):
        run(["no-such-program"], cwd=tmp_path, timeout_s=1)
    with pytest.raises(EnvironmentMissing, match="still running after 0 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], cwd=tmp_path, timeout_s=0.2)


@pytest.mark.parametrize(
    ("does", "how"),
    [
        ("import os; os.kill(os.getpid(), 11)", "signal 11"),
        ("import os; os._exit(3)", "exit 3"),
        ("raise ImportError('libcuda.so is not there')", "exit 1"),
    ],
)
def test_a_crash_of_tensorflow_is_an_error_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str, how: str
) -> None:
    said = "import sys; print('about to fall', file=sys.stderr, flush=True); "
    tensorflow_that(said + does, tmp_path, monkeypatch)
    source = open_source(keras_file(tmp_path), tmp_path)
    try:
        with pytest.raises(ModelError) as caught:
            _ = source.inputs
    finally:
        source.close()
    assert f"model.keras: TensorFlow's process ended with {how}" in caught.value.cause
    assert "about to fall" in caught.value.cause


def test_what_tensorflow_prints_does_not_break_the_protocol(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorflow_that("print('{\"inputs\": []}'); import os; os._exit(3)", tmp_path, monkeypatch)
    source = open_source(keras_file(tmp_path), tmp_path)
    try:
        with pytest.raises(ModelError, match="ended with exit 3"):
            _ = source.inputs
    finally:
        source.close()


def test_without_tensorflow_the_remedy_is_the_command_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgepack.intake.child_source.find_spec", lambda name: None)
    with pytest.raises(EnvironmentMissing) as caught:
        open_source(keras_file(tmp_path), tmp_path)
    assert "pip install 'edgepack[tensorflow]'" in caught.value.fix
