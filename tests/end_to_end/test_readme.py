"""The loader lines in README.md are compiled and run as they stand, on FER's bundles; only `face` is given from outside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edgepack
from tests.conftest import CACHE, ROOT, need
from tests.device.cpp.programs import library

README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, containing: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.S)
    (found,) = [b for b in blocks if containing in b]
    return found


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def placed(fer_builds, target: str, folder: Path) -> Path:
    """A copy of FER's bundle in `folder`, under the name README.md has for it."""
    return shutil.copytree(fer_builds("fp32")[target].bundle, folder / f"emotion_model-{target}")


def test_python_lines_run_and_leave_the_bundle_as_it_is(fer_builds, tmp_path):
    bundle = placed(fer_builds, "jetson-orin", tmp_path)
    lines = block("python", "edgepack_loader")
    face = "import numpy as np\nface = np.zeros([1, 64, 64, 1], np.float32)\n"
    (tmp_path / "app.py").write_text(face + lines)
    assert "CPUExecutionProvider" in run([sys.executable, "app.py"], tmp_path)
    assert edgepack.verify(bundle).passed


def test_cpp_lines_run_and_leave_the_bundle_as_it_is(fer_builds, tmp_path):
    include = need(CACHE / "cpp" / "include", "cpp.sh")
    bundle = placed(fer_builds, "jetson-orin", tmp_path)
    (tmp_path / "app.cpp").write_text(block("cpp", "edgepack.hpp"))
    run(["g++", "-std=c++17", f"-I{include}", "app.cpp", "-o", "app", "-ldl"], tmp_path)
    program = ["env", f"EDGEPACK_ONNXRUNTIME={library()}", "./app"]
    assert "CPUExecutionProvider" in run(program, tmp_path)
    assert edgepack.verify(bundle).passed


def test_web_lines_run_in_a_page(fer_builds, tmp_path):
    modules = need(CACHE / "javascript" / "node_modules", "javascript.sh")
    from tests.device.javascript.browser import opened, serve_folder
    from tests.device.javascript.conftest import node_program

    placed(fer_builds, "web", tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    (hosting,) = re.findall(r"^node (emotion_model-web/loader/\S+ \S+) --compress", README, re.M)
    run([node_program(), *hosting.split()], tmp_path)
    public = tmp_path / "public"
    (public / "face.mjs").write_text("globalThis.face = new Float32Array(4096);\n")
    (public / "app.mjs").write_text("import './face.mjs';\n" + block("js", "edgepack.mjs"))
    (public / "index.html").write_text(
        '<!doctype html><link rel="icon" href="data:,"><script type="module" src="app.mjs"></script>'
    )
    with serve_folder(public) as port, opened(f"http://127.0.0.1:{port}/") as (page, console):
        for _ in range(300):
            if console:
                break
            page.wait_for_timeout(100)
    assert console[0].startswith("Float32Array(7)"), console


def test_kotlin_lines_compile_for_android(tmp_path):
    need(CACHE / "kotlin" / "lib", "kotlin.sh")
    from tests.device.kotlin.jvm import compiled, library, loader_jar

    imports = (
        "android.content.Context io.edgepack.EdgepackBundle io.edgepack.Tensor io.edgepack.selfTest"
    )
    head = "".join(f"import {name}\n" for name in imports.split())
    source = tmp_path / "Readme.kt"
    lines = block("kotlin", "EdgepackBundle")
    source.write_text(f"{head}fun readme(context: Context, face: FloatArray) {{\n{lines}}}\n")
    android = [library("onnxruntime-android.jar"), library("android-all-*.jar")]
    jars = [loader_jar(), *android, library("kotlin-stdlib-*.jar")]
    assert compiled("main-readme", [source], jars).exists()


def test_swift_lines_compile(fer_builds, tmp_path):
    need(CACHE / "swift" / "root", "swift.sh")
    from tests.device.swift import linux

    bundle = placed(fer_builds, "ios", tmp_path)
    face = "let face = [Float](repeating: 0, count: 4096)\n"
    # linux.build compiles the Swift block it finds in a bundle's own README.md.
    lines = block("swift", "EdgepackBundle").replace(
        "import Edgepack\n", f"import Edgepack\n{face}"
    )
    (bundle / "README.md").write_text(f"```swift\n{lines}```\n")
    assert (linux.build(bundle) / "readme").exists()


@pytest.mark.parametrize("command", re.findall(r"^\| `edgepack ([\w-]+)", README, re.M))
def test_every_command_in_the_table_exists(command):
    assert "Usage" in run([sys.executable, "-m", "edgepack", command, "--help"], ROOT)
