"""`edgepack check`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import edgepack
from tests.cli.conftest import Command
from tests.legality.graphs import one_operator, quantized_conv
from tests.models import conv_model, free_size_model, images, write


def test_a_legal_model_exits_with_0_and_says_who_runs_what(command: Command, model: Path) -> None:
    done = command("check", model, "-t", "jetson-orin", "-t", "web")
    assert done.code == 0
    assert "jetson-orin fp16 after opset, shapes, simplify, float16" in done.out
    assert "legal on jetson-orin: 0 errors, 0 warnings" in done.out
    assert "4,928 multiply-accumulates" in done.out
    assert "TensorRT 10" in done.out


def test_what_a_target_does_not_take_exits_with_11(command: Command, tmp_path: Path) -> None:
    path = write(free_size_model(), tmp_path / "free.onnx")
    done = command("check", path, "-t", "jetson-orin", "-t", "web")
    assert done.code == 11
    assert "NOT legal on jetson-orin: 1 error" in done.out
    assert "legal on web: 0 errors" in done.out
    assert "axis 1 (height), axis 2 (width)" in done.out
    assert command("check", path, "-t", "jetson-orin", "--shape", "image=1x8x8x3").code == 0


def test_auto_passes_over_what_this_model_has_no_weights_for(
    command: Command, tmp_path: Path
) -> None:
    path = write(free_size_model(), tmp_path / "free.onnx")
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: web\ntitle: the same steps on another target\n")
    done = command("check", path, "-t", "web", "-t", str(mine))
    assert "legal on web: 0 errors" in done.out
    assert "legal on mine: 0 errors" in done.out
    refused = command("check", path, "-t", "web", "--precision", "fp16-weights")
    assert refused.code == 11
    assert "no weight of this model can be stored as float16" in refused.out


def test_warnings_alone_leave_the_exit_code_0(command: Command, model: Path) -> None:
    done = command("check", model, "-t", "web", "--precision", "fp16")
    assert done.code == 0
    assert "float16_arithmetic" in done.out
    assert "0 errors, 5 warnings" in done.out


def test_what_findings_of_one_rule_have_in_common_is_said_once_and_nothing_is_cut_off(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(quantized_conv(activation_zero=3), tmp_path / "crooked.onnx")
    monkeypatch.setenv("COLUMNS", "100")
    done = command("check", path, "-t", "jetson-orin", "--precision", "int8")
    said = " ".join(done.out.replace("│", " ").split())
    assert said.count("the device takes 0 alone") == 4
    assert said.count("fix: quantize the float model") == 1
    assert "QuantizeLinear ×2, DequantizeLinear ×2 (its input 2 is not 0)" in said
    assert "…" not in said


def test_json_has_every_finding_and_every_provider(command: Command, tmp_path: Path) -> None:
    path = write(one_operator("Det", {"x": [2, 3, 3]}, [2]), tmp_path / "det.onnx")
    done = command("check", path, "-t", "jetson-xavier", "--precision", "fp32", "--json")
    assert done.code == 0
    (target,) = done.json["targets"]
    assert (done.json["legal"], target["legal"], target["target"]) == (True, True, "jetson-xavier")
    (finding,) = target["findings"]
    assert (finding["rule"], finding["operator"]) == ("provider_operators", "Det")
    assert "8.5" in finding["source"]
    assert [p["provider"] for p in target["parts"]] == [
        "TensorrtExecutionProvider",
        "CUDAExecutionProvider",
        "CPUExecutionProvider",
    ]
    assert [p["operators"] for p in target["parts"]] == [0, 0, 1]


def test_an_illegal_model_is_one_json_document_too(command: Command, tmp_path: Path) -> None:
    path = write(quantized_conv(activation_zero=3), tmp_path / "crooked.onnx")
    done = command("check", path, "-t", "jetson-orin", "--precision", "fp32", "--json")
    assert done.code == 11
    (target,) = done.json["targets"]
    crooked = [f for f in target["findings"] if f["rule"] == "zero_points"]
    assert {f["node"] for f in crooked} >= {"x_quantize"}
    assert {f["value"] for f in crooked} == {"3"}


def test_without_calibration_data_the_float_graph_stands_in_and_that_is_said(
    command: Command, model: Path
) -> None:
    done = command("check", model, "-t", "android", "--precision", "int8", "--json")
    (target,) = done.json["targets"]
    assert target["precision"] == "int8"
    assert target["steps"] == ["opset", "shapes", "simplify", "tune"]
    assert target["rest"] == ["int8", "ort_format"]
    assert "no calibration data" in target["note"]
    assert "int8 could take 100% of the multiply-accumulates" in target["note"]
    assert target["int8_mac_share"] == 0.0


def test_with_calibration_data_the_quantized_graph_is_checked(
    command: Command, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "images.npy", images(8))
    done = command(
        "check", model, "-t", "jetson-orin", "--calibration", tmp_path / "images.npy", "--json"
    )
    assert done.code == 0
    (target,) = done.json["targets"]
    assert (target["precision"], target["note"]) == ("int8", "")
    assert target["int8_mac_share"] == 1.0
    assert target["parts"][0]["mac_share"] == 1.0


def test_a_step_that_cannot_be_taken_is_a_finding(command: Command, tmp_path: Path) -> None:
    path = write(quantized_conv(), tmp_path / "quantized.onnx")
    done = command("check", path, "-t", "jetson-orin", "--precision", "fp16", "--json")
    assert done.code == 11
    (target,) = done.json["targets"]
    finding = target["findings"][0]
    assert (finding["rule"], finding["severity"]) == ("float16", "error")
    assert "quantized already" in finding["cause"]
    assert target["note"] == "the graph before float16 is checked"


def test_a_bundle_is_checked_for_its_own_target(command: Command, bundle: Path) -> None:
    done = command("check", bundle, "--json")
    assert done.code == 0
    (target,) = done.json["targets"]
    precision = edgepack.load_manifest(bundle).model.precision
    assert (target["target"], target["precision"], target["steps"]) == ("android", precision, [])
    assert target["macs"] == 4928


def test_a_bundle_can_be_held_against_another_target(command: Command, bundle: Path) -> None:
    done = command("check", bundle, "-t", "jetson-orin", "--json")
    assert done.code == 11
    rules = {f["rule"] for f in done.json["targets"][0]["findings"] if f["severity"] == "error"}
    assert rules & {"zero_points", "forbidden_operators"}


def test_a_changed_bundle_is_refused(command: Command, bundle: Path) -> None:
    model = bundle / edgepack.load_manifest(bundle).model.path
    model.write_bytes(model.read_bytes()[:-1])
    assert command("check", bundle).code == 7


def test_a_model_without_a_target_is_wrong_usage(command: Command, model: Path) -> None:
    done = command("check", model)
    assert done.code == 2
    assert "name one or more with -t" in done.err


def test_a_second_opinion_where_there_is_none_is_wrong_usage(command: Command, model: Path) -> None:
    done = command("check", model, "-t", "web", "--second-opinion")
    assert done.code == 2
    assert "no parser to ask" in done.err


def test_nothing_is_written(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(p.name for p in tmp_path.iterdir())
    command("check", model, "-t", "web")
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_the_function_gives_what_the_command_shows(tmp_path: Path) -> None:
    path = write(conv_model(), tmp_path / "tiny.onnx")
    (result,) = edgepack.check(path, targets=["web"])
    assert result.legal
    assert (result.target, result.precision, result.macs) == ("web", "fp16-weights", 4928)
