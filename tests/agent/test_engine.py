"""Engines: the command line of each TensorRT, what its failures become, and that none is used which did not prove itself."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

import edgepack
from edgepack.resources import RUNTIME
from edgepack_agent import engine
from edgepack_agent.facts import Facts
from edgepack_trust import Refusal
from tests.agent.jetson import ORIN, manifest, manifest_of
from tests.device.board.fakes.onpath import install
from tests.models import conv_model

#: dpkg's version of each JetPack's TensorRT, and what its trtexec calls itself.
VERSIONS = {
    "8.5.2": "8.5.2-1+cuda11.4",
    "8.6.2": "8.6.2.3-1+cuda12.2",
    "10.3.0": "10.3.0.30-1+cuda12.5",
    "10.13.3": "10.13.3.9-1+cuda13.0",
    "10.16.2": "10.16.2.10-1+cuda13.2",
}
OPTIONS: dict[str, Any] = {"engine": "trtexec", "engine_seconds": 20, "python": sys.executable}


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """What edgepack builds for an Orin, by precision."""
    folder = tmp_path_factory.mktemp("releases")
    onnx.save(conv_model(), folder / "conv.onnx")
    return {
        precision: edgepack.build(
            folder / "conv.onnx",
            targets=["jetson-orin"],
            precision=precision,
            output_dir=folder / precision,
            calibration="random",
        )[0].bundle
        for precision in ("fp32", "fp16", "int8")
    }


class Bench:
    """A board with a trtexec that is a stand-in, and a release to build an engine for."""

    def __init__(self, folder: Path, release: Path, patch: pytest.MonkeyPatch) -> None:
        self.release, self.engines = release, folder / "engines"
        self._calls, self._patch = folder / "calls", patch
        self.facts: Facts = ORIN
        self.manifest = manifest_of(release)
        del self.manifest["golden"][1:]  # each is a process
        self.options = dict(OPTIONS)
        self.told: list[str] = []
        bin_folder = install(folder / "bin", "trtexec")
        patch.setenv("PATH", f"{bin_folder}:{os.environ['PATH']}")
        patch.setenv("FAKE_TRTEXEC_CALLS", str(self._calls))
        self.version("10.3.0")

    def version(self, version: str) -> None:
        self._patch.setenv("FAKE_TRTEXEC_VERSION", version)
        self.facts = self.facts._replace(tensorrt=VERSIONS[version])

    def without_proof(self) -> None:
        self.manifest["golden"] = []

    def does(self, what: str) -> None:
        self._patch.setenv("FAKE_TRTEXEC", what)

    def build(self) -> dict[str, Any]:
        return engine.build(
            str(self.release),
            str(self.engines),
            self.manifest,
            self.facts,
            self.options,
            self.told.append,
        )

    def refusal(self) -> Refusal:
        with pytest.raises(Refusal) as refused:
            self.build()
        assert refused.value.kind == "engine"
        assert refused.value.fix
        return refused.value

    @property
    def calls(self) -> list[list[str]]:
        return [json.loads(line) for line in self._calls.read_text().splitlines()]

    def names(self) -> list[str]:
        """What lies in the engines' folder, timing caches apart."""
        found = [p.relative_to(self.engines).as_posix() for p in self.engines.rglob("*")]
        return [n for n in found if not n.startswith("timing-")]


@pytest.fixture
def bench(tmp_path: Path, releases: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, releases["fp32"], monkeypatch)


@pytest.mark.parametrize(
    ("version", "precision", "flags"),
    [
        ("8.5.2", "fp32", ["--buildOnly"]),
        ("8.5.2", "fp16", ["--fp16", "--buildOnly"]),
        ("8.5.2", "int8", ["--int8", "--buildOnly"]),
        ("8.6.2", "int8", ["--int8", "--skipInference"]),
        ("10.3.0", "fp32", ["--stronglyTyped", "--skipInference"]),
        ("10.3.0", "fp16", ["--stronglyTyped", "--skipInference"]),
        ("10.3.0", "int8", ["--stronglyTyped", "--skipInference"]),
        ("10.13.3", "fp16", ["--stronglyTyped", "--skipInference"]),
        ("10.16.2", "int8", ["--stronglyTyped", "--skipInference"]),
    ],
)
def test_each_tensorrt_gets_its_own_options_and_the_engine_answers(
    tmp_path: Path,
    releases: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
    version: str,
    precision: str,
    flags: list[str],
) -> None:
    bench = Bench(tmp_path, releases[precision], monkeypatch)
    bench.version(version)
    report = bench.build()
    build, *proofs = bench.calls
    assert build[0] == f"--onnx={bench.manifest['model']['path']}"
    assert [o for o in build if "=" not in o] == flags
    assert "--memPoolSize=workspace:2048" in build
    assert len(proofs) == len(bench.manifest["golden"]) + 1
    assert report["latency"] == {
        **{"min_ms": 2240.97, "median_ms": 2241.13, "p95_ms": 2241.41, "max_ms": 2241.41}
    }
    assert (report["built"], report["found"], report["proven"]) == ("trtexec", False, True)
    assert len(report["cases"]) == 2 * len(bench.manifest["golden"])
    plan = Path(report["plan"])
    assert plan.read_bytes()
    assert Path(f"{plan}.sha256").read_text() == hashlib.sha256(plan.read_bytes()).hexdigest()
    assert sorted(p.name for p in plan.parent.iterdir()) == ["engine.plan", "engine.plan.sha256"]
    assert bench.told


FAILURES = [
    ("out-of-memory", ("out of memory", "Error Code 1: Cuda Runtime"), "add swap"),
    ("tactics-out-of-memory", ("out of memory", "insufficient to use tactic"), "add swap"),
    ("killed", ("out of memory", "the kernel killed it"), "add swap"),
    (
        "refusal",
        ("ended with 1", "outputScalesLen", "Engine could not be created from network"),
        "edgepack check",
    ),
    ("crash", ("ended by signal 11",), "edgepack check"),
    ("empty", ("wrote no engine", "0 bytes"), "df -h"),
    ("no-file", ("wrote no engine",), "df -h"),
    (
        "no-inference",
        ("Error occurred during inference", "isSuccess(status) failed"),
        "--engine none",
    ),
    ("broken", ("no answer to golden case 0",), "by hand"),
    ("off", ("answers otherwise", "golden case 0", "probabilities", "0.5"), "--precision fp32"),
    ("nan", ("answers otherwise", "max |a−b| not finite"), "--precision fp32"),
]


@pytest.mark.parametrize(("does", "says", "fix"), FAILURES, ids=[f[0] for f in FAILURES])
def test_a_failed_build_says_why_and_leaves_nothing(
    bench: Bench, does: str, says: tuple[str, ...], fix: str
) -> None:
    bench.does(does)
    refusal = bench.refusal()
    assert all(said in refusal.cause for said in says), refusal.cause
    assert fix in refusal.fix
    assert bench.names() == []
    assert not list(bench.engines.glob("timing-*"))
    bench.does("success")
    bench.without_proof()
    report = bench.build()
    assert (report["found"], report["proven"]) == (False, False)
    assert report["because"] == "the release has no golden cases"


def test_an_engine_that_was_cut_off_is_refused_even_where_nothing_proves_it(bench: Bench) -> None:
    bench.without_proof()
    bench.does("cut")
    assert "Engine deserialization failed" in bench.refusal().cause
    assert bench.names() == []


def test_a_build_that_hangs_is_killed_in_time(bench: Bench) -> None:
    bench.does("hang")
    bench.options["engine_seconds"] = 1.5
    begin = time.monotonic()
    refusal = bench.refusal()
    assert time.monotonic() - begin < 10
    assert "still building after 2 s" in refusal.cause
    assert "--engine-seconds" in refusal.fix
    assert bench.names() == []
    assert any("for 1 s" in line for line in bench.told)


def test_warnings_of_little_memory_do_not_fail_a_build_that_succeeds(bench: Bench) -> None:
    bench.does("enough-memory-after-all")
    assert bench.build()["proven"] is True


def test_a_trtexec_of_another_version_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package of TensorRT was upgraded, trtexec was not."""
    bench.facts = bench.facts._replace(tensorrt=VERSIONS["8.5.2"])
    refusal = bench.refusal()
    assert "does not know --buildOnly: it is not of TensorRT 8.5.2" in refusal.cause
    assert "libnvinfer-bin" in refusal.fix


def test_an_engine_is_built_once(bench: Bench) -> None:
    bench.without_proof()
    first, again = bench.build(), bench.build()
    assert (first["found"], again["found"]) == (False, True)
    assert first["plan"] == again["plan"]
    assert len([c for c in bench.calls if c[0].startswith("--onnx")]) == 1


def test_a_timing_cache_is_shared_by_the_models_of_a_board(
    bench: Bench, releases: dict[str, Path]
) -> None:
    bench.without_proof()
    bench.build()
    bench.release, bench.manifest = releases["int8"], manifest_of(releases["int8"])
    bench.without_proof()
    bench.build()
    caches = {o for c in bench.calls for o in c if o.startswith("--timingCacheFile")}
    assert len(caches) == 1
    assert len(list(bench.engines.glob("timing-*"))) == 1


CHANGES: list[dict[str, Any]] = [
    {"tensorrt": VERSIONS["10.3.0"].replace("30", "31")},
    {"sm": "110"},
    {"model": "NVIDIA Jetson AGX Orin Developer Kit"},
    {"l4t": "36.4.4"},
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_an_engine_is_not_used_after_a_change_of_the_board(
    bench: Bench, change: dict[str, Any]
) -> None:
    bench.without_proof()
    first = bench.build()
    bench.facts = bench.facts._replace(**change)
    second = bench.build()
    assert second["found"] is False
    assert second["folder"] != first["folder"]


def test_nor_after_a_change_of_model_or_workspace(bench: Bench) -> None:
    bench.without_proof()
    first = bench.build()
    for file in bench.manifest["files"]:
        if file["role"] == "model":
            file["sha256"] = "0" * 64
    second = bench.build()
    bench.manifest["runtime"]["providers"][0]["options"]["trt_max_workspace_size"] = str(1 << 30)
    third = bench.build()
    assert len({first["folder"], second["folder"], third["folder"]}) == 3
    assert "--memPoolSize=workspace:1024" in bench.calls[-2]


def _cut(plan: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:-1])


def _unseal(plan: Path) -> None:
    Path(f"{plan}.sha256").unlink()


def _link(plan: Path) -> None:
    plan.rename(plan.parent.parent / "foreign")
    plan.symlink_to(plan.parent.parent / "foreign")


def _half(plan: Path) -> None:
    plan.rename(f"{plan}.part")


@pytest.mark.parametrize("spoil", [_cut, _unseal, _link, _half])
def test_an_engine_without_a_right_seal_is_built_anew(
    bench: Bench, spoil: Callable[[Path], None]
) -> None:
    bench.without_proof()
    plan = Path(bench.build()["plan"])
    spoil(plan)
    again = bench.build()
    assert again["found"] is False
    assert not plan.is_symlink()
    assert sorted(p.name for p in plan.parent.iterdir()) == ["engine.plan", "engine.plan.sha256"]


# Who builds


def test_nothing_is_built_where_nothing_is_to_be(tmp_path: Path) -> None:
    def built(**options: Any) -> dict[str, Any]:
        return engine.build("r", str(tmp_path / "e"), data, ORIN, options, print)

    data = manifest()
    assert built(engine="none") == {"built": "none", "because": "none was asked for"}
    data["runtime"]["providers"] = [{"name": "CPUExecutionProvider", "options": {}}]
    assert built(engine="trtexec")["because"] == "the release does not use TensorRT"
    assert not (tmp_path / "e").exists()


def test_auto_turns_to_trtexec_where_onnxruntime_has_no_tensorrt(bench: Bench) -> None:
    bench.options["engine"] = "auto"
    assert bench.build()["built"] == "trtexec"


def test_auto_builds_nothing_where_neither_can_and_says_why(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.options["engine"] = "auto"
    monkeypatch.setattr("edgepack_agent.engine.program", lambda *places: None)
    report = bench.build()
    assert report["built"] == "none"
    assert "is built without it; there is no trtexec" in report["because"]


@pytest.mark.parametrize("unknown", ["tensorrt", "sm"])
def test_no_engine_is_built_for_a_board_that_is_not_known(bench: Bench, unknown: str) -> None:
    bench.facts = bench.facts._replace(**{unknown: None})
    assert "of this board is not known" in bench.refusal().cause


def test_asked_for_onnxruntime_it_does_not_take_another(bench: Bench) -> None:
    bench.options["engine"] = "onnxruntime"
    refusal = bench.refusal()
    assert "onnxruntime built no engine" in refusal.cause
    assert "is built without it" in refusal.cause


FAKE_LOADER = """
import json, sys
assert sys.argv[1] == "report" and sys.argv[3] == "--cache-dir", sys.argv
cache = {"folder": sys.argv[4] + "/0123", "key": {"sm": "87"}, "kept": %r, "removed": []}
print(json.dumps({"provider": "TensorrtExecutionProvider", "passed_over": {}, "engine_cache": cache}))
"""


@pytest.mark.parametrize("kept", [[], ["TensorrtExecutionProvider_graph_0.engine"]])
def test_onnxruntimes_engine_is_the_one_that_the_loader_will_run(
    bench: Bench, tmp_path: Path, kept: list[str]
) -> None:
    bench.release = tmp_path / "release"
    (bench.release / "loader").mkdir(parents=True)
    (bench.release / "loader/edgepack_loader.py").write_text(FAKE_LOADER % kept)
    bench.options["engine"] = "auto"
    report = bench.build()
    assert (report["built"], report["found"]) == ("onnxruntime", bool(kept))
    assert report["folder"] == f"{bench.engines}/0123"


FAILING_LOADER = """
import json
why = "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP could not build engine for fused node: %s"
print(json.dumps({"provider": "CUDAExecutionProvider", "passed_over": {"TensorrtExecutionProvider": why}}))
"""


@pytest.mark.parametrize(
    ("said", "fix"), [("graph_0", "--engine none"), ("Cuda Runtime (out of memory)", "add swap")]
)
def test_a_tensorrt_that_is_there_and_fails_is_not_passed_over(
    bench: Bench, tmp_path: Path, said: str, fix: str
) -> None:
    """The words are onnxruntime's: github.com/microsoft/onnxruntime/issues/13381."""
    bench.release = tmp_path / "release"
    (bench.release / "loader").mkdir(parents=True)
    (bench.release / "loader/edgepack_loader.py").write_text(FAILING_LOADER % said)
    bench.options["engine"] = "auto"
    refusal = bench.refusal()
    assert said in refusal.cause
    assert fix in refusal.fix


@pytest.mark.parametrize(
    "why", ["is built without it", "a library or the device is missing", "it takes none"]
)
def test_what_means_that_there_is_no_tensorrt_is_what_the_loader_says(why: str) -> None:
    assert why in (RUNTIME / "python/edgepack_loader.py").read_text()
    assert engine._ABSENT.search(why)


# What goes when


def test_a_half_built_engine_goes_and_a_whole_one_stays(bench: Bench) -> None:
    bench.without_proof()
    plan = Path(bench.build()["plan"])
    other = bench.engines / ("a" * 32)
    other.mkdir()
    (other / "engine.plan.part").write_bytes(b"half")
    engine.drop_halves(str(bench.engines))
    assert plan.exists()
    assert not other.exists()
    engine.drop_halves(str(bench.engines / "nowhere"))


def test_engines_that_no_report_names_go(bench: Bench, tmp_path: Path) -> None:
    bench.without_proof()
    folder = Path(bench.build()["folder"])
    names = {n: bench.engines / (n * 32) for n in "abc"}
    for place in names.values():
        place.mkdir()
    (bench.engines / "mine").mkdir()
    reports = [tmp_path / "1.json", tmp_path / "2.json"]
    cache = {"report": {"engine_cache": {"folder": str(names["a"])}}}
    reports[0].write_text(json.dumps({"engine": {"built": "none"}, "golden": cache}))
    reports[1].write_text(json.dumps({"engine": {"folder": str(folder)}, "golden": {"report": {}}}))
    engine.clear(str(bench.engines), [*map(str, reports), str(tmp_path / "none.json")])
    assert names["b"].exists(), "a report is missing: it may have named any"
    engine.clear(str(bench.engines), map(str, reports))
    assert (folder.exists(), names["a"].exists()) == (True, True)
    assert not names["b"].exists()
    assert not names["c"].exists()
    assert (bench.engines / "mine").exists()
    assert list(bench.engines.glob("timing-*"))
    shutil.rmtree(bench.engines)
    engine.clear(str(bench.engines), [])
