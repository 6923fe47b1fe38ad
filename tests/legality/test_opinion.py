"""A second opinion by a vendor's real parser."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgepack.artifact import Format, ModelFile
from edgepack.errors import EnvironmentMissing, UsageError
from edgepack.legality.opinion import Verdict, ask
from edgepack.legality.tables import Opinion, load_table
from tests.conftest import CACHE, need
from tests.legality.graphs import UINT8, one_operator, quantized_conv, residual_model
from tests.models import wrap

TABLE = load_table("TensorrtExecutionProvider")
assert TABLE.second_opinion is not None
OPINION: Opinion = TABLE.second_opinion


def found_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Child processes find modules in `folder`."""
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))


@pytest.fixture
def parser(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one."""
    found_in(need(CACHE / "tensorrt" / "packages", "tensorrt.sh"), monkeypatch)


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the test's own that stands for a vendor's; the child process finds it."""
    found_in(tmp_path, monkeypatch)
    return tmp_path / "fake_parser.py"


def fake() -> Opinion:
    return OPINION.model_copy(update={"module": "fake_parser", "title": "Fake"})


def test_a_parser_that_is_not_installed_is_missing_with_the_command_that_installs_it(
    tmp_path: Path,
) -> None:
    made = wrap(quantized_conv(), tmp_path)
    with pytest.raises(EnvironmentMissing) as caught:
        ask(OPINION.model_copy(update={"module": "no_such_parser"}), made)
    assert "TensorRT-RTX is not installed" in caught.value.cause
    assert "pip install 'edgepack[tensorrt-rtx]'" in caught.value.fix


def test_a_parser_that_dies_is_an_error_with_its_last_words(vendor: Path, tmp_path: Path) -> None:
    vendor.write_text("import sys, os\nsys.stderr.write('out of luck\\n')\nos._exit(9)\n")
    with pytest.raises(EnvironmentMissing, match="ended with 9: out of luck"):
        ask(fake(), wrap(quantized_conv(), tmp_path))


def test_an_ort_file_is_refused(tmp_path: Path) -> None:
    made = wrap(quantized_conv(), tmp_path)
    ort = ModelFile(path=made.path, format=Format.ORT, inputs=(), outputs=())
    with pytest.raises(UsageError, match=r"reads \.onnx alone"):
        ask(OPINION, ort)


@pytest.mark.parametrize(
    ("parsed", "compiled", "said"),
    [
        (
            True,
            "SM86",
            "parsed, and compiled for SM86, by TensorRT-RTX 1, not by the device's TensorRT",
        ),
        (True, "", "parsed, but not compiled, by TensorRT-RTX 1, not by the device's TensorRT"),
        (False, "", "rejected by TensorRT-RTX 1, not by the device's TensorRT"),
    ],
)
def test_a_verdict_is_named_for_what_it_is(parsed: bool, compiled: str, said: str) -> None:
    verdict = Verdict(
        who="TensorRT-RTX 1",
        stands_for=OPINION.stands_for,
        parsed=parsed,
        compiled_for=compiled,
        rejections=(),
    )
    assert verdict.said == verdict.as_json()["said"] == said


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("proto", [quantized_conv(), residual_model()], ids=["int8", "fp32"])
def test_the_real_parser_takes_what_the_rules_take(proto: object, tmp_path: Path) -> None:
    verdict = ask(OPINION, wrap(proto, tmp_path))  # type: ignore[arg-type]
    assert (verdict.parsed, verdict.compiled_for, verdict.rejections) == (True, "SM86", ())
    assert verdict.said.startswith("parsed, and compiled for SM86, by TensorRT-RTX 1.")


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("change", "node"),
    [
        ({"activation_zero": 3}, "x_quantize"),
        ({"activations": UINT8, "weights": UINT8, "per_channel": False}, "x_quantize"),
        ({"integer_bias": True}, "bias_dequantize"),
    ],
)
def test_the_real_parser_rejects_what_the_rules_reject(
    change: dict[str, object], node: str, tmp_path: Path
) -> None:
    from edgepack.errors import LegalityError
    from edgepack.legality.require import require_legal
    from edgepack.targets import load_target

    made = wrap(quantized_conv(**change), tmp_path)  # type: ignore[arg-type]
    with pytest.raises(LegalityError, match=node):
        require_legal(made, load_target("jetson-orin"), "int8")
    verdict = ask(OPINION, made)
    assert not verdict.parsed
    assert verdict.rejections[0].why


@pytest.mark.usefixtures("parser")
def test_the_real_parser_names_the_operator_it_does_not_have(tmp_path: Path) -> None:
    proto = one_operator("Det", {"x": [2, 3, 3]}, [2])
    (rejection, *_) = ask(OPINION, wrap(proto, tmp_path)).rejections
    assert (rejection.node, rejection.operator) == ("det", "Det")


@pytest.mark.usefixtures("parser")
def test_a_free_dimension_is_parsed_and_not_compiled(tmp_path: Path) -> None:
    proto = one_operator("Relu", {"x": ["batch", 4]}, ["batch", 4])
    verdict = ask(OPINION, wrap(proto, tmp_path))
    assert (verdict.parsed, verdict.compiled_for) == (True, "")
