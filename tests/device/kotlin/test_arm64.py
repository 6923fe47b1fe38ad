"""The arm64 library that phones run, unmodified out of onnxruntime-android, answers the golden inputs (qemu, a stand-in for bionic)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

import edgepack
from tests.conftest import CACHE, need
from tests.device.kotlin.arm64 import fake_bionic
from tests.device.kotlin.jvm import HERE
from tests.models import conv_model, images, write

QEMU = "qemu-aarch64-static"


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A command that runs arm64/answer.c over the library."""
    fetched = need(CACHE / "kotlin" / "arm64", "kotlin.sh")
    folder = tmp_path_factory.mktemp("arm64")
    library = folder / "libonnxruntime.so"
    library.symlink_to(fetched / library.name)
    fake_bionic.build(library, folder)
    flags = ["-O1", "-I", str(fetched), "-o", "answer", "-Wl,--allow-shlib-undefined"]
    command = [fake_bionic.COMPILER, *flags, str(HERE / "arm64" / "answer.c"), library.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    path = f"LD_LIBRARY_PATH={folder}"
    return [QEMU, "-L", "/usr/aarch64-linux-gnu", "-E", path, str(folder / "answer")]


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("bundles")
    model = write(conv_model(), folder / "tiny.onnx")
    return {
        precision: edgepack.build(
            model,
            targets=["android"],
            precision=precision,
            calibration=images(20),
            output_dir=folder / precision,
        )[0].bundle
        for precision in ("fp32", "fp16", "int8")
    }


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_a_phones_library_answers_the_golden_inputs(
    program: list[str], bundles: dict[str, Path], tmp_path: Path, precision: str
) -> None:
    bundle = bundles[precision]
    manifest = json.loads((bundle / "manifest.json").read_text())
    plan, written = [], {}
    for case in manifest["golden"]:
        for x in case["inputs"]:
            kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(x["dtype"]))
            shape = [len(x["shape"]), *x["shape"]]
            plan.append(["in", x["name"], kind, bundle / x["path"], *shape])
        for name in {y["name"] for y in case["expect"]}:
            written[case["name"], name] = tmp_path / f"{len(written)}.bin"
            plan.append(["out", name, written[case["name"], name]])
        plan.append(["run"])
    (tmp_path / "plan").write_text("\n".join("\t".join(map(str, line)) for line in plan))
    command = [*program, str(bundle / manifest["model"]["path"]), str(tmp_path / "plan")]
    # qemu's cortex-a76 is ten times quicker than its default.
    environment = {**os.environ, "QEMU_CPU": "cortex-a76"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [manifest["runtime"]["version"]]
    compared = 0
    for case in manifest["golden"]:
        for y in case["expect"]:
            wanted = np.fromfile(bundle / y["path"], y["dtype"])
            found = np.fromfile(written[case["name"], y["name"]], y["dtype"])
            np.testing.assert_allclose(found, wanted, atol=y["atol"], rtol=y["rtol"])
            compared += 1
    assert compared == 6


def test_the_emulator_is_there() -> None:
    need(CACHE / "kotlin" / "arm64", "kotlin.sh")
    assert shutil.which(QEMU)
