"""`edgepack build`: what it writes, what it leaves alone, and what happens when it is stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import edgepack
from edgepack.errors import OutputError, ParityError
from tests.cli.conftest import Command, content, in_private_mounts
from tests.intake.standins import is_running, keras_file, tensorflow_that
from tests.models import conv_model, images, write


def test_build_says_what_it_made_and_what_to_do_next(
    command: Command, model: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", images(20))
    done = command(
        "build",
        model,
        "-t",
        "android",
        "-t",
        "web",
        "--calibration",
        tmp_path / "x.npy",
        "-o",
        tmp_path / "out",
    )
    assert done.code == 0
    assert sorted(os.listdir(tmp_path / "out")) == ["tiny-android", "tiny-web"]
    for part in ("int8", "tiny-android", "tiny-web", "edgepack verify"):
        assert part in done.out
    assert "android: int8" in done.err
    assert "fix:" not in done.err


def test_build_json_is_one_document_and_stderr_is_silent(
    command: Command, model: Path, tmp_path: Path
) -> None:
    done = command(
        "build",
        model,
        "-t",
        "web",
        "-o",
        tmp_path / "out",
        "--app",
        "eye",
        "--app-version",
        "1.2",
        "--release-seq",
        "3",
        "--json",
    )
    (bundle,) = done.json["bundles"]
    assert done.err == ""
    assert bundle["target"] == "web"
    assert bundle["bundle"] == str(tmp_path / "out" / "eye-web")
    assert bundle["size_before"] == model.stat().st_size
    manifest = edgepack.load_manifest(tmp_path / "out" / "eye-web")
    assert manifest.release.model_dump() == {"app": "eye", "version": "1.2", "seq": 3}
    assert (
        bundle["size_after"] == (tmp_path / "out" / "eye-web" / manifest.model.path).stat().st_size
    )
    stages = [s["stage"] for s in bundle["worst"]]
    assert stages == [
        *("convert", "opset", "shapes", "simplify", "tune", "float16_weights", "tune"),
    ]


# What is already there


def test_an_existing_bundle_is_left_byte_for_byte(model: Path, tmp_path: Path) -> None:
    edgepack.build(model, targets=["web"], output_dir=tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(OutputError, match=r"already there: .*tiny-web"):
        edgepack.build(model, targets=["android", "web"], output_dir=tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_overwrite_replaces_the_whole_bundle_and_nothing_else(model: Path, tmp_path: Path) -> None:
    edgepack.build(model, targets=["android", "web"], output_dir=tmp_path / "out")
    android = content(tmp_path / "out" / "tiny-android")
    (tmp_path / "out" / "tiny-web" / "stray").write_text("of an older build")
    edgepack.build(model, targets=["web"], output_dir=tmp_path / "out", version="2", overwrite=True)
    assert edgepack.load_manifest(tmp_path / "out" / "tiny-web").release.version == "2"
    assert edgepack.verify(tmp_path / "out" / "tiny-web").passed
    assert content(tmp_path / "out" / "tiny-android") == android
    assert sorted(os.listdir(tmp_path / "out")) == ["tiny-android", "tiny-web"]


def test_a_failed_overwrite_leaves_the_old_bundle(model: Path, tmp_path: Path) -> None:
    edgepack.build(model, targets=["web"], output_dir=tmp_path / "out")
    before = content(tmp_path)
    with pytest.raises(ParityError):
        edgepack.build(
            model,
            targets=["web"],
            output_dir=tmp_path / "out",
            overwrite=True,
            precision="fp16",
            atol=1e-6,
            rtol=0.0,
        )
    assert content(tmp_path) == before


def test_if_one_target_fails_no_bundle_is_there(model: Path, tmp_path: Path) -> None:
    # No int8 can be this near.
    np.save(tmp_path / "x.npy", images(20))
    before = content(tmp_path)
    with pytest.raises(ParityError, match="web"):
        edgepack.build(
            model,
            targets=["web", "android"],
            output_dir=tmp_path / "out",
            precision="int8",
            calibration=tmp_path / "x.npy",
            atol=1e-6,
            rtol=0.0,
        )
    assert content(tmp_path) == before
    assert not (tmp_path / "out").exists()


# A disk that is full or may not be written

_ON_SMALL_DISKS = """
import json, os, subprocess, sys
from pathlib import Path
import edgepack
from edgepack.errors import EdgepackError
from tests.models import images

model, place = Path(sys.argv[1]), Path(sys.argv[2])
for size in sys.argv[3].split(","):
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", place], check=True)
    try:
        edgepack.build(model, targets=["android", "web"], output_dir=place, calibration=images(20))
        said = "built"
    except EdgepackError as error:
        said = f"{error.kind}: {error.cause}"
    print(json.dumps({"size": int(size), "said": said, "left": sorted(os.listdir(place))}))
    subprocess.run(["umount", place], check=True)
"""


def on_small_disks(tmp_path: Path, sizes_kib: list[int]) -> list[dict[str, object]]:
    model = write(conv_model(features=64), tmp_path / "tiny.onnx")
    (tmp_path / "disk").mkdir()
    script = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n{_ON_SMALL_DISKS}"
    )
    printed = in_private_mounts(script, model, tmp_path / "disk", ",".join(map(str, sizes_kib)))
    return [json.loads(line) for line in printed.splitlines()]


def test_a_disk_that_fills_up_at_any_stage_is_called_full_and_nothing_is_left(
    tmp_path: Path,
) -> None:
    *full, built = on_small_disks(tmp_path, SMALL_DISKS_KIB)
    assert built["said"] == "built"
    assert built["left"] == ["tiny-android", "tiny-web"]
    place = tmp_path / "disk"
    for outcome in full:
        assert str(outcome["said"]).startswith(f"output: the disk under {place} is full"), outcome
        assert outcome["left"] == [], outcome


#: Full at the first write, at the last, and at those that onnxruntime does for simplify, int8 and ort_format; and not full.
SMALL_DISKS_KIB = [4, 40, 72, 92, 108, 140, 236, 320, 4000]


def test_a_disk_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    script = (
        "import subprocess, sys\n"
        "subprocess.run(['mount', '-t', 'tmpfs', '-o', 'ro', 'none', sys.argv[3]], check=True)\n"
        "done = subprocess.run([sys.executable, '-m', 'edgepack', 'build', sys.argv[1], '-t', 'web', '-o', sys.argv[2]], capture_output=True, text=True)\n"
        "print(done.returncode, done.stderr)"
    )
    model = write(conv_model(), tmp_path / "tiny.onnx")
    (tmp_path / "disk").mkdir()
    said = in_private_mounts(script, model, tmp_path / "disk" / "out", tmp_path / "disk")
    assert said.startswith("8 ")
    assert f"error: cannot write {tmp_path / 'disk' / 'out'}: Read-only file system" in said


# Stopped in the middle


def start(*arguments: object) -> subprocess.Popen[str]:
    """`edgepack build` in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "edgepack", "build", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_build_that_is_stopped_leaves_nothing(model: Path, tmp_path: Path, signum: int) -> None:
    np.save(tmp_path / "x.npy", images(2000))
    before = sorted(tmp_path.rglob("*"))
    options = ["--calibration", tmp_path / "x.npy", "-o", tmp_path / "out" / "deeper"]
    process = start(model, "-t", "android", "-t", "web", *options)
    assert process.stderr is not None
    for line in process.stderr:
        if "android: " in line:
            break
    assert list((tmp_path / "out" / "deeper").glob(".edgepack-*"))
    process.send_signal(signum)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "error: interrupted\nfix:   " in err
    assert "Traceback" not in err
    assert out == ""
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_build_takes_tensorflows_process_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: int
) -> None:
    hang = (
        "import os, tempfile, time, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.chdir(tempfile.gettempdir())\n"
        "open('part', 'w').write(str(os.getpid()))\n"
        "os.rename('part', 'pid')\n"
        "time.sleep(120)"
    )
    tensorflow_that(hang, tmp_path, monkeypatch)
    process = start(keras_file(tmp_path), "-t", "web", "-o", tmp_path / "out", "--json")
    deadline = time.monotonic() + 30
    while not (found := list(tmp_path.rglob("pid"))) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker = int(found[0].read_text())
    assert is_running(worker)
    # As a terminal does: to the whole group.
    os.killpg(process.pid, signum)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert json.loads(out)["error"]["kind"] == "interrupted"
    assert not is_running(worker)
    assert not (tmp_path / "out").exists()
