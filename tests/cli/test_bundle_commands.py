"""`edgepack verify`, `run` and `inspect` on a finished bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Command
from tests.models import images

# verify


def test_verify_says_which_loader_ran_and_how_far_each_answer_is(
    command: Command, built: Path
) -> None:
    done = command("verify", built)
    assert done.code == 0
    for part in ("verified", "python loader", "runs on the device", "probabilities", "shipped"):
        assert part in done.out
    data = command("verify", built, "--json").json
    assert data["passed"] is True
    assert data["bundle"] == str(built)
    assert len(data["cases"]) == 6


@pytest.mark.parametrize(
    "name", ["model/tiny.ort", "golden/0/input-0.bin", "README.md", "build.gradle.kts"]
)
def test_verify_exits_with_7_on_one_flipped_byte(command: Command, bundle: Path, name: str) -> None:
    data = bytearray((bundle / name).read_bytes())
    data[-1] ^= 1
    (bundle / name).write_bytes(data)
    done = command("verify", bundle, "--json")
    assert done.code == 7
    assert f"{name} was changed" in done.err
    assert done.json["error"]["kind"] == "bundle"


def test_verify_exits_with_7_where_a_byte_of_the_manifests_is_flipped(
    command: Command, bundle: Path
) -> None:
    whole = (bundle / "manifest.json").read_bytes()
    # Without a signature only what is checked against the files or the schema can be noticed.
    for part in (b'"schema":1', b'"sha256":"', b'"path":"model/', b'"size":'):
        at = whole.index(part) + len(part) - 1
        (bundle / "manifest.json").write_bytes(
            whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        )
        assert command("verify", bundle).code == 7


@pytest.mark.parametrize("given", ["none", "."])
def test_verify_exits_with_7_where_there_is_no_bundle(
    command: Command, tmp_path: Path, given: str
) -> None:
    done = command("verify", tmp_path / given)
    assert done.code == 7
    assert "is no bundle" in done.err


# run


def test_run_prints_the_outputs(command: Command, built: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(1))
    done = command("run", built, "--input", f"image={tmp_path / 'x.npy'}")
    assert done.code == 0
    assert done.out.startswith("probabilities: float32 [1, 10]\n[[")
    (values,) = (
        command("run", built, "-i", f"image={tmp_path / 'x.npy'}", "--json")
        .json["outputs"]
        .values()
    )
    assert values["shape"] == [1, 10]
    assert sum(values["values"][0]) == pytest.approx(1.0, abs=0.05)


def test_run_writes_the_outputs(command: Command, built: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(1))
    place = tmp_path / "a" / "b"
    done = command(
        "run", built, "-i", f"image={tmp_path / 'x.npy'}", "--output-dir", place, "--json"
    )
    (output,) = done.json["outputs"].values()
    assert np.load(output["file"]).shape == (1, 10)
    assert Path(output["file"]).parent == place


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ("image", 2, "NAME=FILE.npy"),
        ("=x.npy", 2, "NAME=FILE.npy"),
        ("image=none.npy", 5, "none.npy"),
        ("image=text.npy", 5, "text.npy"),
        ("image=many.npz", 5, "NpzFile"),
        ("image=wide.npy", 5, "[1, 9, 9, 1]"),
        ("picture=good.npy", 5, "the model takes ['image']"),
    ],
)
def test_run_refuses_a_wrong_input(
    command: Command,
    built: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
    code: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npy").write_text("no array")
    np.save("good.npy", images(1))
    np.save("wide.npy", np.ones((1, 9, 9, 1), np.float32))
    np.savez("many.npz", image=images(1))
    done = command("run", built, "--input", given)
    assert done.code == code
    assert said in done.err
    assert "fix: " in done.err


def test_run_refuses_an_input_given_twice(command: Command, built: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(1))
    twice = ["-i", f"image={tmp_path / 'x.npy'}"] * 2
    done = command("run", built, *twice)
    assert done.code == 2
    assert "image" in done.err


def test_run_cannot_write_below_a_file(command: Command, built: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images(1))
    place = tmp_path / "x.npy" / "out"
    done = command("run", built, "-i", f"image={tmp_path / 'x.npy'}", "--output-dir", place)
    assert done.code == 8
    assert str(place) in done.err


# inspect


def test_inspect_shows_a_bundle(command: Command, built: Path) -> None:
    done = command("inspect", built)
    assert done.code == 0
    for part in (
        "tiny 0.0.0 for android",
        "int8",
        "image: float32 [1, 8, 8, 1]",
        "ort_format",
        "Xnnpack",
    ):
        assert part in done.out
    assert command("inspect", built, "--json").json["kind"] == "bundle"


def test_inspect_shows_a_model(command: Command, model: Path) -> None:
    done = command("inspect", model)
    for part in ("onnx", "443 parameters", "Conv ×1", "image: float32 [batch, 8, 8, 1]"):
        assert part in done.out
    assert command("inspect", model, "--json").json["inputs"][0]["shape"] == ["batch", 8, 8, 1]


@pytest.mark.parametrize(("name", "code"), [("none.onnx", 3), ("", 3), ("text", 3)])
def test_inspect_refuses_what_is_neither(
    command: Command, tmp_path: Path, name: str, code: int
) -> None:
    (tmp_path / "text").write_text("hello")
    done = command("inspect", tmp_path / name)
    assert done.code == code
    assert str(tmp_path / name) in done.err


def test_inspect_says_what_is_wrong_with_a_manifest(command: Command, bundle: Path) -> None:
    (bundle / "manifest.json").write_text("{}")
    done = command("inspect", bundle)
    assert done.code == 7
    assert "manifest.json" in done.err
