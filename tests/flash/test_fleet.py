"""Many boards: waves, failures that stop them, reports that can be resumed. Sixteen SSH servers in this process, fake agents."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edgepack.cli.app import main
from edgepack.errors import FlashError, OutputError, UsageError
from edgepack.flash.fleet import Fleet, waves
from edgepack.flash.host import parse_host
from edgepack.flash.options import FlashOptions
from edgepack.flash.payload import opened
from edgepack.flash.report import FleetReport, read_report
from tests.flash.boards import LocalBoard, wait_until
from tests.flash.bundles import APP, fake_agent, make, trusted, write_trust
from tests.flash.conftest import host_of

FAILS = {"outcome": "refused", "error": {"kind": "board", "cause": "wrong board", "fix": "none"}}


def tell(board: LocalBoard, orders: dict[str, Any]) -> None:
    (board.root / APP).mkdir(exist_ok=True)
    (board.root / APP / "fake.json").write_text(json.dumps(orders))


def flash(bundle: Path, boards: list[LocalBoard], **more: Any) -> FleetReport:
    with trusted(bundle) as payload:
        hosts = [host_of(b) for b in boards]
        return Fleet(hosts, payload, FlashOptions(patience_s=5), **more).run()


def outcomes(report: FleetReport) -> list[str]:
    return [b.outcome for b in report.boards]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return make(tmp_path / "small", {"model/m.onnx": b"m" * 1000})


def test_waves_are_the_canary_a_tenth_and_the_rest() -> None:
    hosts = [parse_host(f"b{i}") for i in range(32)]
    assert [len(w) for w in waves(hosts, None)] == [1, 4, 27]
    assert [len(w) for w in waves(hosts, 3)] == [3, 4, 25]
    assert [len(w) for w in waves(hosts, 0)] == [32]
    assert [len(w) for w in waves(hosts[:1], None)] == [1]
    first, second, rest = waves(hosts, "b9")
    assert [h.name for h in first] == ["b9"]
    assert len({h.name for h in (*first, *second, *rest)}) == 32
    with pytest.raises(UsageError, match="no such board"):
        waves(hosts, "b99")


def test_sixteen_boards_are_flashed_by_one_call(
    small: Path, boards: Callable[[], LocalBoard], tmp_path: Path
) -> None:
    fleet = [boards() for _ in range(16)]
    report = flash(small, fleet, report=tmp_path / "r.json")
    assert report.passed, report
    assert outcomes(report) == ["committed"] * 16
    assert sorted(b.wave for b in report.boards) == [1, 2, 2, *[3] * 13]
    assert read_report(tmp_path / "r.json") == report


def test_a_canary_that_fails_stops_the_wave_and_the_rest_is_resumed(
    small: Path, boards: Callable[[], LocalBoard], tmp_path: Path
) -> None:
    fleet = [boards() for _ in range(5)]
    tell(fleet[0], FAILS)
    place = tmp_path / "r.json"
    report = flash(small, fleet, max_failures=3, report=place)
    assert outcomes(report) == ["refused", *["not-started"] * 4]
    assert (report.passed, report.stopped) == (False, f"a canary failed: {fleet[0].address}")
    assert [b.commands for b in fleet[1:]] == [[]] * 4
    tell(fleet[0], {})
    tell(fleet[3], FAILS)
    report = flash(small, fleet, earlier=read_report(place), max_failures=1, report=place)
    assert outcomes(report) == ["committed"] * 3 + ["refused", "committed"]
    tell(fleet[3], {})
    before = [len(b.commands) for b in fleet]
    report = flash(small, fleet, earlier=read_report(place), report=place)
    assert report.passed
    assert [len(b.commands) - n for b, n in zip(fleet, before, strict=True)] == [0, 0, 0, 1, 0]


def test_more_failures_than_may_be_end_it(small: Path, boards: Callable[[], LocalBoard]) -> None:
    fleet = [boards() for _ in range(6)]
    for board in fleet[1:4]:
        tell(board, FAILS)
    report = flash(small, fleet, canary=0, concurrency=1, max_failures=1)
    assert outcomes(report) == ["committed", "refused", "refused", *["not-started"] * 3]
    assert report.stopped.startswith("more than 1 boards failed: ")


def test_no_board_is_begun_where_the_report_cannot_be_written(
    small: Path, boards: Callable[[], LocalBoard], tmp_path: Path
) -> None:
    board = boards()
    with pytest.raises(OutputError):
        flash(small, [board], report=tmp_path / "nowhere/r.json")
    assert board.connections == []


def test_a_report_of_another_bundle_is_not_resumed(
    small: Path, boards: Callable[[], LocalBoard], tmp_path: Path
) -> None:
    board = boards()
    earlier = flash(small, [board])
    other = make(tmp_path / "other", {}, seq=2)
    with pytest.raises(UsageError, match="the report is of release 1-"):
        flash(other, [board], earlier=earlier)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 9}', '{"schema": 1, "boards": 3}', "\0"]
)
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(FlashError) as caught:
        read_report(tmp_path / "r.json")
    assert caught.value.kind == "report"


def test_one_board_by_two_names_is_refused(small: Path) -> None:
    with opened(small, trust=None, allow_unsigned=False) as payload:
        hosts = [parse_host("root@b"), parse_host("edge@b:22")]
        with pytest.raises(UsageError, match="are one board"):
            Fleet(hosts, payload, FlashOptions())


# The command


def command(home: Path, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "edgepack", *map(str, arguments)],
        env={**os.environ, "HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def inventory(place: Path, fleet: list[LocalBoard]) -> Path:
    lines = [
        f"  b{i}: {{address: 127.0.0.1, port: {b.port}, root: {b.root}}}"
        for i, b in enumerate(fleet)
    ]
    place.write_text("\n".join(["hosts:", *lines, "groups:", "  all: [b0, b1, b2]", ""]))
    return place


def test_the_command_reports_each_board_and_its_exit_code_says_if_one_failed(
    small: Path, boards: Callable[[], LocalBoard], home: Path, tmp_path: Path
) -> None:
    fleet = [boards() for _ in range(3)]
    tell(fleet[2], FAILS)
    place = inventory(tmp_path / "fleet.yaml", fleet)
    trust = write_trust(tmp_path / "trust.json")
    given = [
        "flash",
        small,
        "--inventory",
        place,
        "--trust",
        trust,
        "--group",
        "all",
        "--canary",
        "b1",
    ]
    done = command(home, *given, "--json", "--report", tmp_path / "r.json")
    out, err = done.communicate(timeout=60)
    assert done.returncode == 14, err
    data = json.loads(out)
    assert [(b["name"], b["outcome"]) for b in data["boards"]] == [
        *(("b0", "committed"), ("b1", "committed"), ("b2", "refused")),
    ]
    assert data["boards"][2]["error"]["cause"] == "wrong board"
    assert json.loads((tmp_path / "r.json").read_text()) == data
    assert "b1: committed" in err
    tell(fleet[2], {})
    again = command(home, *given[:6], "--resume", tmp_path / "r.json")
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err
    assert out.count("committed") == 3
    assert "b0" not in err


def test_ctrl_c_says_what_is_known_and_leaves_the_board_to_itself(
    small: Path, boards: Callable[[], LocalBoard], home: Path, tmp_path: Path
) -> None:
    fleet = [boards(), boards()]
    tell(fleet[0], {"silent_at": "PREFLIGHT"})
    place = inventory(tmp_path / "fleet.yaml", [*fleet, fleet[1]])
    place.write_text(place.read_text().replace("  b2:", "  # b2:").replace(", b2]", "]"))
    report = tmp_path / "r.json"
    given = ["flash", small, "--inventory", place, "--trust", write_trust(tmp_path / "trust.json")]
    running = command(home, *given, "--json", "--report", report)
    wait_until(lambda: (fleet[0].root / APP / "begin.json").exists())
    time.sleep(0.2)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert running.returncode == 130, err
    assert [b["outcome"] for b in json.loads(out)["boards"]] == ["interrupted", "not-started"]
    assert json.loads(report.read_text())["stopped"] == "interrupted"


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """Runs `edgepack` in this process: exit code, stdout, stderr."""
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGHUP)}

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edgepack", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        assert isinstance(end.value.code, int)
        return end.value.code, *capsys.readouterr()

    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("order", ["status", "history", "doctor", "rollback"])
def test_a_board_answers_orders(
    small: Path, boards: Callable[[], LocalBoard], call: Call, order: str
) -> None:
    board = boards()
    given = ["board", order, board.address, "--root", board.root]
    code, out, _ = call(*given, "--json")
    if order == "doctor":  # an agent of this machine's, gone afterwards
        assert {c["what"] for c in json.loads(out)["app"]} >= {"python", "openssl", "disk"}
        assert list(Path.cwd().glob(".edgepack-*.pyz")) == []
    else:
        assert (code, json.loads(out)["error"]["kind"]) == (14, "agent")
    report = flash(small, [board])
    (agent,) = (board.root / "agent").glob("*.pyz")
    (board.root / "agent/current.pyz").symlink_to(agent.name)
    expected = 14 if order == "doctor" else 0
    code, out, _ = call(*given, "--json")
    answer = json.loads(out)[APP]
    assert code == expected
    if order == "status":
        assert answer["current"] == report.boards[0].release
    elif order == "rollback":
        assert answer["outcome"] == "rolled-back"
    code, out, err = call(*given, "--app", APP)
    assert code == expected, err
    assert {"doctor": "free some", "history": "1 events"}.get(order, APP) in out
    assert call(*given, "--app", "a;b")[0] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["b; rm -rf /"], 2, "is no host name"),
        (["b", "--root", "/x; rm -rf /"], 2, "is no plain absolute path"),
        (["b", "--host-fingerprint", "x"], 2, "is no fingerprint"),
        (["a", "b", "--host-fingerprint", "SHA256:" + "A" * 43], 2, "is one board's"),
        (["b", "--probe", "'"], 2, "--probe"),
        (["b", "--engine", "gpu"], 2, "choose from auto"),
        (["b", "--group", "g"], 2, "add --inventory"),
        ([], 2, "no board is named"),
        (["b", "--resume", "/nowhere"], 14, "No such file"),
        (["b", "--canary", "c"], 2, "there is no such board"),
    ],
)
def test_a_call_that_makes_no_sense_says_so(
    small: Path, home: Path, call: Call, arguments: list[str], code: int, says: str
) -> None:
    found, _, err = call("flash", small, *arguments)
    assert (found, says in err) == (code, True), err


def test_without_asyncssh_it_says_what_to_install(
    small: Path, home: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, err = call("flash", small, "board")
    assert (code, "pip install 'edgepack[flash]'" in err) == (9, True)


# The bundle


def test_a_bundle_without_a_signature_or_an_agent_is_refused(tmp_path: Path) -> None:
    from edgepack.errors import BundleError, TrustError

    unsigned = make(tmp_path / "unsigned", {}, signed_by=None)
    with (
        pytest.raises(TrustError, match="is not signed"),
        opened(unsigned, trust=None, allow_unsigned=False),
    ):
        pass
    with opened(unsigned, trust=None, allow_unsigned=True) as payload:
        assert payload.signature is None
    (unsigned / "model/m.onnx").write_bytes(b"changed")
    with (
        pytest.raises(BundleError, match="not as it was built"),
        opened(unsigned, trust=None, allow_unsigned=True),
    ):
        pass


def test_an_app_may_not_take_the_agents_folder(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b", {}, app="agent")
    with (
        pytest.raises(FlashError, match="cannot be called 'agent'"),
        opened(bundle, trust=None, allow_unsigned=False),
    ):
        pass


def test_an_archive_is_flashed_as_its_folder(small: Path, boards: Callable[[], LocalBoard]) -> None:
    from edgepack.bundle.archive import pack

    board = boards()
    assert outcomes(flash(pack(small), [board])) == ["committed"]
    assert outcomes(flash(small, [board])) == ["committed"]
    kept = {p.read_bytes() for p in (board.root / APP / "incoming").iterdir()}
    assert kept == {b"m" * 1000, fake_agent()}
