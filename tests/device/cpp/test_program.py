"""edgepack-run and the README's lines, under sanitizers: exit codes, JSON on stdout, what `check` finds."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from string import Template
from typing import Any

import pytest

from edgepack.bundle.loaders import load_spec
from edgepack.resources import RUNTIME
from tests.device.cpp.programs import LOADER, compiled, library
from tests.runtime.conftest import Copy, copy, edit, replace, with_providers  # noqa: F401


def run(*words: str | Path, **environment: str) -> tuple[int, dict[str, Any], str]:
    program = compiled(LOADER / "edgepack-run.cpp")
    environment = {**os.environ, "EDGEPACK_ONNXRUNTIME": str(library()), **environment}
    done = subprocess.run(
        [program, *words], env=environment, capture_output=True, text=True, timeout=120
    )
    return done.returncode, json.loads(done.stdout), done.stderr


def test_self_test_tells_people_and_programs(samples: Path) -> None:
    code, outcome, said = run("self-test", samples / "multi-ort", "--threads", "1")
    assert (code, outcome["passed"], len(outcome["cases"])) == (0, True, 48)
    assert said.splitlines()[-1] == "passed on CPUExecutionProvider"
    assert outcome["report"] == run("report", samples / "multi-ort")[1]
    assert outcome["report"]["engine_cache"] is None


def test_a_miss_is_told_and_is_exit_code_1(copy: Copy) -> None:  # noqa: F811
    bundle = copy("conv-onnx")
    replace(bundle, "golden/1/shipped-0.bin", bytes(40))
    code, outcome, said = run("self-test", bundle)
    assert (code, outcome["passed"]) == (1, False)
    missed = [c for c in outcome["cases"] if not c["passed"]]
    assert [(c["case"], c["from"]) for c in missed] == [("1", "shipped")]
    assert "MISS case 1: probabilities against shipped" in said
    edit(bundle, lambda m: m["golden"][1]["expect"][0].update(shape=[10]))
    code, outcome, said = run("self-test", bundle)
    assert code == 1
    assert "float32 [1, 10], expected float32 [10]" in said


def test_the_model_in_two_files_is_opened_by_its_path(copy: Copy) -> None:  # noqa: F811
    bundle = copy("conv-onnx")
    extra = {"path": "model/conv-onnx.onnx.data", "size": 0, "sha256": "0" * 64, "role": "model"}
    edit(bundle, lambda m: m["files"].append(extra))
    replace(bundle, "model/conv-onnx.onnx.data", b"weights")
    code, outcome, _ = run("self-test", bundle)
    assert (code, outcome["passed"]) == (0, True)
    (bundle / "model/conv-onnx.onnx.data").write_bytes(b"Weights")
    assert run("self-test", bundle)[1]["error"]["kind"] == "file-corrupt"


def test_check_lists_every_extra_missing_and_changed_file(copy: Copy) -> None:  # noqa: F811
    bundle = copy("conv-onnx")
    for name in ("manifest.sig", "manifest.sig.pem", "manifest.json.sigstore"):
        (bundle / name).write_text("x")
    assert run("check", bundle)[1]["files"] == len(
        json.loads((bundle / "manifest.json").read_text())["files"]
    )
    (bundle / "golden/0/input-0.bin").unlink()
    assert run("check", bundle)[1]["error"]["kind"] == "file-missing"
    (bundle / "golden/1/input-0.bin").write_bytes(b"x" * 256)
    (bundle / "golden/manifest.sig").write_text("x")
    (bundle / "link").symlink_to("manifest.json")
    code, outcome, _ = run("check", bundle)
    assert (code, outcome["error"]["kind"]) == (2, "file-corrupt")
    for name in ("golden/0/input-0.bin", "golden/1/input-0.bin", "golden/manifest.sig", "link"):
        assert name in outcome["error"]["message"]


def test_a_link_out_of_the_bundle_is_refused(copy: Copy, tmp_path: Path) -> None:  # noqa: F811
    bundle = copy("conv-onnx")
    (bundle / "model/conv-onnx.onnx").rename(tmp_path / "outside.onnx")
    (bundle / "model/conv-onnx.onnx").symlink_to(tmp_path / "outside.onnx")
    error = run("report", bundle)[1]["error"]
    assert (error["kind"], "is a link out of the bundle" in error["message"]) == ("file-corrupt", True)  # fmt: skip


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ((), "usage"),
        (("frobnicate", "BUNDLE"), "usage"),
        (("self-test", "BUNDLE", "--thread", "1"), "usage"),
        (("self-test", "BUNDLE", "--threads"), "usage"),
        (("self-test", "nowhere"), "bundle-not-found"),
        (("self-test", "BUNDLE", "--library", "/nowhere.so"), "provider-unavailable"),
        (("self-test", "BUNDLE", "--providers", "CUDAExecutionProvider"), "provider-unavailable"),
    ],
)
def test_what_goes_wrong_is_json_too(samples: Path, words: tuple[str, ...], kind: str) -> None:
    given = [str(samples / "conv-onnx") if word == "BUNDLE" else word for word in words]
    code, outcome, said = run(*given)
    assert (code, outcome["error"]["kind"]) == (2, kind)
    assert said.startswith(f"error: {kind}: ")


def test_a_caller_may_choose_among_the_providers(copy: Copy) -> None:  # noqa: F811
    bundle = copy("conv-onnx")
    with_providers(bundle, "CoreMLExecutionProvider", "CPUExecutionProvider")
    assert list(run("report", bundle)[1]["passed_over"]) == ["CoreMLExecutionProvider"]
    report = run("report", bundle, "--providers", "CPUExecutionProvider")[1]
    assert report["passed_over"] == {}


def test_no_broken_manifest_is_more_than_an_error(samples: Path) -> None:
    """Refused under a kind, or taken where the change did not matter; never a crash."""
    program = compiled(Path(__file__).with_name("mutations.cpp"))
    command = [program, samples / "multi-ort" / "manifest.json", "5000"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    taken, refused = map(int, done.stdout.split())
    assert refused > 4000
    assert taken > 10


def test_onnxruntime_leaves_no_telemetry_behind(samples: Path, tmp_path: Path) -> None:
    run("self-test", samples / "conv-ort", HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    assert list(tmp_path.rglob("*")) == []


def test_the_readmes_lines_run(samples: Path, tmp_path: Path) -> None:
    programs = [
        (RUNTIME / language / "README.md.in").read_text().split("```cpp\n")[1].split("```")[0]
        for language in ("python", "cpp")
    ]
    assert programs[0] == programs[1]
    values = {
        **{"bundle": "conv-onnx", "input_name": "image", "input_dtype": "float32"},
        **{"input_shape": "1, 8, 8, 1", "output_name": "probabilities"},
    }
    source = tmp_path / "readme.cpp"
    source.write_text(Template(programs[0]).substitute(values))
    done = subprocess.run(
        [compiled(source, ("-O0",))],
        cwd=samples,
        env={**os.environ, "EDGEPACK_ONNXRUNTIME": str(library())},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "10 values on CPUExecutionProvider\n", done.stderr


def test_a_bundle_for_python_brings_this_loader_too() -> None:
    assert load_spec("python").beside == ("cpp",)
    here = {p.name for p in LOADER.iterdir() if p.is_file()} - {"runtime.yaml"}
    assert set(load_spec("cpp").files) == here
