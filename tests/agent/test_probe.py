"""A release answers before it is switched to, and the user's own probe after; what fails says why."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from edgepack_agent import probe
from edgepack_trust import Refusal

OPTIONS: dict[str, Any] = {"python": sys.executable, "engine_seconds": 10}
CASE = {
    **{"case": "3", "output": "probabilities", "from": "shipped", "max_abs": 0.25},
    **{"atol": 1e-5, "rtol": 1e-4, "passed": False},
}


def release(folder: Path, answer: str) -> str:
    """A release whose loader runs `answer`, Python."""
    (folder / "loader").mkdir()
    (folder / "loader/edgepack_loader.py").write_text(f"import json, sys, time\n{answer}\n")
    return str(folder)


def says(outcome: dict[str, Any]) -> str:
    return f"print(json.dumps({outcome!r}))"


def refusal(place: str, **options: Any) -> Refusal:
    with pytest.raises(Refusal) as refused:
        probe.golden(place, "/engines", {**OPTIONS, **options})
    assert refused.value.kind == "probe"
    assert refused.value.fix
    return refused.value


def test_the_loader_is_asked_with_the_engines_folder_and_writes_no_compiled_files(
    tmp_path: Path,
) -> None:
    answer = (
        "assert sys.dont_write_bytecode; "
        + "print(json.dumps({'passed': True, 'argv': sys.argv[1:]}))"
    )
    place = release(tmp_path, answer)
    found = probe.golden(place, "/engines", OPTIONS)
    assert found["argv"] == ["self-test", place, "--cache-dir", "/engines"]
    assert found["seconds"] >= 0


@pytest.mark.parametrize(
    ("answer", "cause", "fix"),
    [
        (says({"passed": False, "cases": [CASE, CASE]}), "golden case 3, output probabilities against shipped: max |a−b| 0.25, allowed 1e-05 + 0.0001·|b| (and 1 more)", "CPUExecutionProvider"),
        (says({"passed": False, "cases": [{**CASE, "max_abs": None}]}), "not finite", "CPUExecutionProvider"),
        (says({"passed": False, "cases": [{**CASE, "max_abs": None, "why": "float16 [1]"}]}), "float16 [1]", "CPUExecutionProvider"),
        (says({"passed": False, "cases": []}), "no golden cases", "README"),
        (says({"error": {"kind": "runtime-too-old", "message": "onnxruntime is 1.15.0"}}), "runtime-too-old: onnxruntime is 1.15.0", "newer onnxruntime"),
        (says({"error": {"kind": "provider-unavailable", "message": "no onnxruntime"}}), "no onnxruntime", "--python"),
        (says({"error": {"kind": "file-corrupt", "message": "model/m.onnx has SHA-256"}}), "model/m.onnx", "flash the bundle again"),
        (says({"error": {"kind": "runtime-failed", "message": "CUDA failure 2"}}), "CUDA failure 2", "Read a failure"),
        ("import os; os.abort()", "was ended by signal 6 without an answer", "by hand"),
        ("sys.exit('ImportError: libcudnn.so.9')", "ended with 1 without an answer: ImportError: libcudnn.so.9", "by hand"),
        ("print('{\"passed\": tru')", "ended with 0 without an answer", "by hand"),
        ("print('[1]')", "without an answer", "by hand"),
        ("print('{}')", "no golden cases", "README"),
    ],
    ids=["off", "not finite", "dtype", "none", "old", "no provider", "corrupt", "failed", "abort", "import", "cut", "list", "empty"],
)  # fmt: skip
def test_what_does_not_answer_is_refused_with_its_reason(
    tmp_path: Path, answer: str, cause: str, fix: str
) -> None:
    refused = refusal(release(tmp_path, answer))
    assert cause in refused.cause
    assert fix in refused.fix


def test_a_loader_that_hangs_is_killed(tmp_path: Path) -> None:
    place = release(tmp_path, "time.sleep(60)")
    assert "still busy with `self-test` after 1 s" in refusal(place, engine_seconds=1).cause


def test_a_release_without_a_loader_and_a_python_that_is_not_there(tmp_path: Path) -> None:
    assert "can't open file" in refusal(str(tmp_path)).cause
    assert "No such file" in refusal(str(tmp_path), python="./none").cause


# The user's own probe


def script(folder: Path, text: str) -> list[str]:
    place = folder / "probe.sh"
    place.write_text(f"cd {folder}\n{text}\n")
    return ["sh", str(place)]


def probed(argv: Any, **options: Any) -> list[dict[str, Any]]:
    return probe.probes({"probe": argv, "probe_seconds": 3, "probes": 3, **options})


def test_without_one_nothing_is_asked() -> None:
    assert probed(None) == []


def test_it_is_run_so_many_times_and_no_more(tmp_path: Path) -> None:
    found = probed(script(tmp_path, "echo x >>ran"))
    assert (tmp_path / "ran").read_text() == "x\n" * 3
    assert [(each["code"], each["tried"]) for each in found] == [(0, 1)] * 3


def test_an_app_may_take_a_moment_to_start(tmp_path: Path) -> None:
    found = probed(script(tmp_path, "echo x >>ran; test $(wc -l <ran) -ge 3"))
    assert found[0]["tried"] == 3
    assert len(found) == 3


def test_an_app_that_never_answers_is_refused_with_its_last_words(tmp_path: Path) -> None:
    begin = time.monotonic()
    with pytest.raises(Refusal) as refused:
        probed(script(tmp_path, "echo connection refused >&2; exit 7"), probe_seconds=1)
    assert time.monotonic() - begin < 5
    assert refused.value.kind == "probe"
    assert "ended with 7 (tried" in refused.value.cause
    assert "connection refused" in refused.value.cause


def test_an_app_that_stops_answering_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"ended with 1 \(it had answered 2 times\)"):
        probed(script(tmp_path, "echo x >>ran; test $(wc -l <ran) -lt 3"), probes=5)
    assert (tmp_path / "ran").read_text() == "x\n" * 3


@pytest.mark.parametrize("text", ["sleep 60", "test -e ran && sleep 60; echo >ran"])
def test_a_probe_that_hangs_is_killed_and_refused(tmp_path: Path, text: str) -> None:
    begin = time.monotonic()
    with pytest.raises(Refusal, match="did not end within 1 s"):
        probed(script(tmp_path, text), probe_seconds=1)
    assert time.monotonic() - begin < 6


def test_a_probe_that_crashes_or_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="was ended by signal 11"):
        probed(script(tmp_path, "kill -SEGV $$"), probe_seconds=0.5)
    with pytest.raises(Refusal, match="No such file"):
        probed(["./no-such-probe"], probe_seconds=0.5)


# Restart


def test_restart_runs_the_command_as_it_is(tmp_path: Path) -> None:
    assert probe.restart({})["restarted"] is False
    done = probe.restart({"restart": [*script(tmp_path, 'echo "$1" >given'), "a b; c"]})
    assert done["restarted"] is True
    assert (tmp_path / "given").read_text() == "a b; c\n"


def test_a_unit_that_does_not_start_is_refused_with_systemds_words(tmp_path: Path) -> None:
    words = "Failed to restart digits.service: Access denied"
    with pytest.raises(Refusal) as refused:
        probe.restart({"restart": script(tmp_path, f"echo {words} >&2; exit 4")})
    assert refused.value.kind == "restart"
    assert words in refused.value.cause
    assert "ended with 4" in refused.value.cause


def test_a_restart_that_hangs_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_RESTART_SECONDS", 1)
    with pytest.raises(Refusal, match="did not end within 1 s") as refused:
        probe.restart({"restart": ["sleep", "60"]})
    assert refused.value.kind == "restart"
    assert json.dumps(refused.value.fix)


def test_after_a_switch_the_loader_has_less_time_than_an_engine_takes(tmp_path: Path) -> None:
    place = release(tmp_path, "time.sleep(60)")
    with pytest.raises(Refusal, match="still busy with `self-test` after 1 s"):
        probe.golden(place, "/engines", {**OPTIONS, "engine_seconds": 1800}, limit=1)
