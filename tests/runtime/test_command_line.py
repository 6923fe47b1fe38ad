"""The loader as a program: one JSON object on stdout, lines on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import onnx
import pytest
import yaml

from tests.conftest import ROOT
from tests.runtime.conftest import LOADER, Copy, edit, feeds_of, manifest_of, replace

CPU = "CPUExecutionProvider"


def program(*arguments: object, loader: Path = LOADER) -> tuple[int, dict[str, Any], str]:
    command = [sys.executable, str(loader), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, json.loads(done.stdout), done.stderr


@pytest.fixture
def shipped(copy: Copy) -> Path:
    """A bundle that brings its loader, as edgepack writes it."""
    bundle = copy("conv-onnx")
    (bundle / "loader").mkdir()
    file = {"path": "loader/edgepack_loader.py", "size": 0, "sha256": "0" * 64, "role": "loader"}
    edit(bundle, lambda m: m["files"].append(file))
    replace(bundle, file["path"], LOADER.read_bytes())
    return bundle


def test_a_bundle_tests_itself_and_stays_as_it_was(shipped: Path) -> None:
    own = shipped / "loader" / "edgepack_loader.py"
    code, outcome, lines = program("self-test", loader=own)
    assert (code, outcome["passed"], len(outcome["cases"])) == (0, True, 6)
    assert outcome["report"]["provider"] == CPU
    assert lines.splitlines()[-1] == f"passed on {CPU}"
    assert program("check", loader=own)[:2] == (0, {"files": 11})


def test_the_command_in_runtime_yaml_runs_in_the_bundles_folder(shipped: Path) -> None:
    spec = yaml.safe_load((ROOT / "runtime/python/runtime.yaml").read_text())
    command = [
        Template(word).substitute(python=sys.executable) for word in spec["self_test"]["command"]
    ]
    done = subprocess.run(command, cwd=shipped, capture_output=True, timeout=60)
    assert done.returncode == 0
    assert json.loads(done.stdout)["passed"] is True


def test_latency_is_of_the_first_golden_case_and_in_order(shipped: Path) -> None:
    code, times, lines = program("latency", shipped, "--runs", 40, "--warm-up", 2)
    assert (code, times["runs"], times["warm_up"]) == (0, 40, 2)
    assert 0 < times["min_ms"] <= times["median_ms"] <= times["p95_ms"] <= times["max_ms"]
    assert times["report"]["provider"] == CPU
    assert lines.startswith(f"40 runs on {CPU}: min ")


@pytest.mark.parametrize("limits", [("--seconds", 0), ("--runs", 0)])
def test_latency_ends_in_time_and_is_of_one_run_at_least(
    shipped: Path, limits: tuple[str, int]
) -> None:
    code, times, _ = program("latency", shipped, *limits)
    assert (code, times["runs"]) == (0, 1)
    assert times["min_ms"] == times["max_ms"]


def test_without_a_golden_case_nothing_is_timed(copy: Copy) -> None:
    bundle = copy("conv-onnx")
    edit(bundle, lambda m: m.update(golden=[]))
    code, outcome, _ = program("latency", bundle)
    assert (code, outcome["error"]["kind"]) == (2, "input-missing")


def test_a_miss_exits_1_and_names_the_case(copy: Copy) -> None:
    bundle = copy("conv-onnx")
    replace(bundle, "golden/2/source-0.bin", np.full(10, 9, np.float32).tobytes())
    code, outcome, lines = program("self-test", bundle)
    assert (code, outcome["passed"]) == (1, False)
    assert (
        "MISS case 2: probabilities against source: max |a−b| 9, allowed 0.001 + 0.01·|b|" in lines
    )
    assert f"FAILED on {CPU}" in lines


def test_a_value_that_is_not_finite_is_null_in_the_json(copy: Copy) -> None:
    bundle = copy("conv-onnx")
    replace(bundle, "golden/0/source-0.bin", np.full(10, np.inf, np.float32).tobytes())
    code, outcome, _ = program("self-test", bundle)
    assert code == 1
    assert outcome["cases"][1]["max_abs"] is None


def test_an_error_exits_2_with_kind_and_message(tmp_path: Path, copy: Copy) -> None:
    code, outcome, lines = program("report", tmp_path)
    assert (code, outcome["error"]["kind"]) == (2, "bundle-not-found")
    assert f"error: bundle-not-found: {outcome['error']['message']}" in lines
    bundle = copy("multi-ort")
    (bundle / "extra").write_text("x")
    code, outcome, _ = program("check", bundle)
    assert (code, outcome["error"]["kind"]) == (2, "file-corrupt")
    assert "extra is not in the manifest" in outcome["error"]["message"]


def test_what_onnxruntime_itself_says_is_an_error_too(copy: Copy) -> None:
    bundle = copy("multi-onnx")
    edit(bundle, lambda m: m["outputs"].append({**m["outputs"][0], "name": "nowhere"}))
    code, outcome, _ = program("self-test", bundle)
    assert (code, outcome["error"]["kind"]) == (2, "runtime-failed")
    assert "nowhere" in outcome["error"]["message"]


def test_run_reads_and_writes_npy_files(samples: Path, tmp_path: Path) -> None:
    bundle = samples / "multi-onnx"
    arguments = []
    for k, (name, value) in enumerate(feeds_of(bundle).items()):
        np.save(tmp_path / f"{k}.npy", value)
        arguments += ["--input", f"{name}={tmp_path / f'{k}.npy'}"]
    code, outcome, _ = program("run", bundle, *arguments, "--output-dir", tmp_path / "out")
    assert code == 0
    assert outcome["report"]["provider"] == CPU
    declared = manifest_of(bundle)["outputs"]
    assert [o["name"] for o in outcome["outputs"]] == [o["name"] for o in declared]
    for output in outcome["outputs"]:
        value = np.load(output["path"])
        assert (value.dtype.name, list(value.shape)) == (output["dtype"], output["shape"])
    summed = np.load(tmp_path / "out" / "sum.npy")
    feeds = feeds_of(bundle)
    np.testing.assert_allclose(summed, feeds["f32"] + feeds["scalar/odd name:0"])


def test_an_outputs_name_cannot_lead_out_of_the_output_folder(copy: Copy, tmp_path: Path) -> None:
    bundle, evil = copy("conv-onnx"), "../up/probabilities"
    model = onnx.load(bundle / "model/conv-onnx.onnx")
    model.graph.output[0].name = model.graph.node[-1].output[0] = evil
    replace(bundle, "model/conv-onnx.onnx", model.SerializeToString())
    edit(bundle, lambda m: m.update(golden=[], outputs=[{**m["outputs"][0], "name": evil}]))
    np.save(tmp_path / "image.npy", np.zeros((1, 8, 8, 1), np.float32))
    arguments = ("--input", f"image={tmp_path / 'image.npy'}", "--output-dir", tmp_path / "out")
    code, outcome, _ = program("run", bundle, *arguments)
    assert (code, outcome["outputs"][0]["name"]) == (0, evil)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["..%2Fup%2Fprobabilities.npy"]


def test_run_refuses_what_is_no_npy_file(samples: Path, tmp_path: Path) -> None:
    evil = tmp_path / "pickle.npy"
    np.save(evil, np.array([{}], object), allow_pickle=True)
    for path in (evil, tmp_path / "missing.npy", tmp_path):
        arguments = ("--input", f"image={path}", "--output-dir", tmp_path)
        code, outcome, _ = program("run", samples / "conv-onnx", *arguments)
        assert (code, outcome["error"]["kind"]) == (2, "input-missing")
        assert str(path) in outcome["error"]["message"]


def test_providers_and_threads_are_the_callers(samples: Path) -> None:
    bundle = samples / "conv-onnx"
    code, outcome, _ = program("report", bundle, "--providers", CPU, "--threads", 1)
    assert (code, outcome["provider"]) == (0, CPU)
    code, outcome, _ = program("report", bundle, "--providers", f"{CPU},CUDAExecutionProvider")
    assert (code, outcome["error"]["kind"]) == (2, "provider-unavailable")


# --- the README of a bundle --------------------------------------------------------------------------


def _readme(bundle: Path) -> str:
    spec = manifest_of(bundle)["inputs"][0]
    values = {
        **{"app": "digits", "target": "jetson-orin", "bundle": str(bundle), "precision": "fp32"},
        **{"package": "onnxruntime-gpu", "version": "1.23.0", "min_version": "1.20.0"},
        **{
            "providers": CPU,
            "packages_apart": "",
            "model_path": manifest_of(bundle)["model"]["path"],
        },
        **{"inputs_table": "| image |", "outputs_table": "| probabilities |"},
        **{"input_name": spec["name"], "input_dtype": spec["dtype"], "input_elements": "64"},
        **{"input_shape": ", ".join(map(str, spec["shape"])), "output_name": "probabilities"},
    }
    template = (ROOT / "runtime/python/README.md.in").read_text(encoding="utf-8")
    return Template(template).substitute(values)


def test_the_readmes_lines_run_as_they_stand_and_leave_the_bundle_alone(shipped: Path) -> None:
    code = _readme(shipped).split("```python\n")[1].split("```")[0]
    elsewhere = shipped.parent / "app"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert f"'provider': '{CPU}'" in done.stdout
    assert program("check", shipped)[0] == 0


def test_the_readme_explains_every_kind_of_error(shipped: Path) -> None:
    text = _readme(shipped)
    contract = (ROOT / "runtime/README.md").read_text(encoding="utf-8")
    table = contract.split("## Error kinds")[1].split("## ")[0]
    kinds = [w for line in table.splitlines() for w in line.split("|")[1:2] if "`" in w]
    words = [w for cell in kinds for w in cell.split("`")[1::2] if w != "kind"]
    assert len(words) >= 11
    assert [w for w in words if f"`{w}`" not in text] == []
