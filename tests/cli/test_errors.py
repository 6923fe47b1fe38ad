"""What is refused: exit code, cause, remedy, and nothing left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.models import conv_model, free_size_model, images, write


class Case(NamedTuple):
    """Arguments after `edgepack build`, given a folder with a good model `tiny.onnx`; and what must be said."""

    name: str
    arguments: Callable[[Path], list[object]]
    code: int
    kind: str
    cause: str
    fix: str


def text(folder: Path) -> Path:
    (folder / "notes.onnx").write_text("not a model at all")
    return folder / "notes.onnx"


def truncated(folder: Path) -> Path:
    data = (folder / "tiny.onnx").read_bytes()
    (folder / "cut.onnx").write_bytes(data[: len(data) // 2])
    return folder / "cut.onnx"


def samples(folder: Path, x: np.ndarray) -> Path:
    np.savez(folder / "samples.npz", image=x)
    return folder / "samples.npz"


def with_nan() -> np.ndarray:
    x = images(5)
    x[3, 1, 2, 0] = np.nan
    return x


def tiny(*arguments: object) -> Callable[[Path], list[object]]:
    return lambda folder: [folder / "tiny.onnx", "-t", "android", *arguments]


CASES = [
    Case(
        "missing model",
        lambda f: [f / "none.keras", "-t", "web"],
        3,
        "model",
        "none.keras: no such file",
        "check the path",
    ),
    Case("text", lambda f: [text(f), "-t", "web"], 3, "model", "its content is text", ".keras"),
    Case(
        "truncated model",
        lambda f: [truncated(f), "-t", "web"],
        3,
        "model",
        "cut.onnx is not a valid ONNX model",
        "export",
    ),
    Case("empty folder", lambda f: [f, "-t", "web"], 3, "model", "saved_model.pb", "tiny.onnx"),
    Case(
        "wrong rank", tiny("--shape", "image=8x8x1"), 3, "shape", "has 3 dimensions", "batchx8x8x1"
    ),
    Case(
        "wrong size",
        tiny("--shape", "image=1x9x8x1"),
        3,
        "shape",
        "axis 1 is fixed to 8",
        "batchx8x8x1",
    ),
    Case(
        "wrong input",
        tiny("--shape", "picture=1x8x8x1"),
        3,
        "shape",
        "no such input",
        "image: float32",
    ),
    Case(
        "shape is no shape",
        tiny("--shape", "image:8"),
        2,
        "usage",
        "INPUT=SIZES",
        "image=1x64x64x1",
    ),
    Case("shape of zero", tiny("--shape", "image=0x8x8x1"), 2, "usage", "size of 0", "start at 1"),
    Case(
        "shape twice",
        tiny("--shape", "image=1x8x8x1", "--shape", "image=2x8x8x1"),
        2,
        "usage",
        "given twice",
        "once",
    ),
    Case("batch of zero", tiny("--batch", "0"), 2, "usage", "--batch '0'", "free"),
    Case(
        "free size",
        lambda f: [write(free_size_model(), f / "free.onnx"), "-t", "android"],
        3,
        "shape",
        "axis 1 (height)",
        "--shape",
    ),
    Case(
        "unknown target",
        lambda f: [f / "tiny.onnx", "-t", "androit"],
        4,
        "target",
        "'androit'",
        "did you mean 'android'?",
    ),
    Case(
        "missing profile",
        lambda f: [f / "tiny.onnx", "-t", f / "my.yaml"],
        4,
        "target",
        "my.yaml",
        "check the path",
    ),
    Case(
        "target twice",
        lambda f: [f / "tiny.onnx", "-t", "web", "-t", "web"],
        2,
        "usage",
        "web",
        "once",
    ),
    Case("no target", lambda f: [f / "tiny.onnx"], 2, "usage", "--target", "--help"),
    Case("no model", lambda f: ["-t", "web"], 2, "usage", "model", "--help"),
    Case("unknown option", tiny("--fast"), 2, "usage", "--fast", "--help"),
    Case(
        "unknown precision",
        tiny("--precision", "int4"),
        2,
        "usage",
        "'int4' is not legal",
        "fp32, fp16, int8",
    ),
    Case(
        "int8 without calibration",
        tiny("--precision", "int8"),
        2,
        "usage",
        "needs calibration data",
        "--calibration",
    ),
    Case(
        "missing calibration",
        tiny("--calibration", "none.npz"),
        5,
        "data",
        "none.npz: no such file",
        "check the path",
    ),
    Case(
        "text as calibration",
        lambda f: [*tiny()(f), "--calibration", text(f)],
        5,
        "data",
        "not a .npz or .npy",
        "np.savez",
    ),
    Case(
        "calibration of wrong shape",
        lambda f: [*tiny()(f), "--calibration", samples(f, np.ones((5, 9, 9, 1), np.float32))],
        5,
        "data",
        "[5, 9, 9, 1]",
        "reshape",
    ),
    Case(
        "calibration with NaN",
        lambda f: [*tiny()(f), "--calibration", samples(f, with_nan())],
        5,
        "data",
        "sample 3 holds nan at [1, 2, 0]",
        "drop",
    ),
    Case(
        "too small a tolerance",
        tiny("--precision", "fp16", "--atol", "1e-6", "--rtol", "0"),
        6,
        "parity",
        "stage float16 changed output 'probabilities'",
        "--atol",
    ),
    Case("bad app name", tiny("--app", "../elsewhere"), 2, "usage", "'../elsewhere'", "letters"),
    Case(
        "output below a file",
        lambda f: [*tiny()(f), "-o", f / "tiny.onnx" / "out"],
        8,
        "output",
        "tiny.onnx",
        "--output",
    ),
    Case(
        "output is a file",
        lambda f: [*tiny()(f), "-o", f / "tiny.onnx"],
        8,
        "output",
        "tiny.onnx",
        "--output",
    ),
    Case("name too long", tiny("--app", "a" * 300), 8, "output", "aaa", "--output"),
]


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
@pytest.mark.parametrize("json", [False, True], ids=["text", "json"])
def test_a_wrong_request_is_refused_with_cause_and_remedy(
    tmp_path: Path, command: Command, case: Case, json: bool
) -> None:
    write(conv_model(), tmp_path / "tiny.onnx")
    arguments = case.arguments(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    place = [] if "-o" in arguments else ["-o", tmp_path / "out"]
    done = command("build", *arguments, *place, *(["--json"] if json else []))
    assert done.code == case.code
    assert "Traceback" not in done.err
    assert case.cause in done.err
    if json:
        error = done.json["error"]
        assert error["kind"] == case.kind
        assert case.cause in error["cause"]
        assert case.fix in error["fix"]
    else:
        assert done.out == ""
    if case.fix != "--help":
        said, remedy = done.err.strip().split("\nfix:   ")
        assert "error: " in said
        assert case.fix in remedy
    assert sorted(tmp_path.rglob("*")) == before


def test_an_error_of_our_own_making_keeps_its_traceback(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgepack.passes.simplify import Simplify

    def broken(*arguments: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(Simplify, "run", broken)
    with pytest.raises(AssertionError, match="a bug"):
        command("build", model, "-t", "web", "-o", model.parent / "out")
    assert not (model.parent / "out").exists()
