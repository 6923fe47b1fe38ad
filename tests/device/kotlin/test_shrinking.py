"""R8, as an app's release build runs it, over the module's rules: what native code and the garbage collector need is still there."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from tests.conftest import ROOT
from tests.device.kotlin.jvm import compiled, library, loader_jar

APP = """
import android.content.Context
import io.edgepack.EdgepackBundle
import io.edgepack.Tensor

class App {
    fun main(context: Context) = EdgepackBundle.open(context.assets, "digits-android").use { bundle ->
        bundle.session().run(mapOf("image" to Tensor("float32", 1, 8, 8, 1)))
    }
}
"""


def shrunk(folder: Path, rules: list[Path]) -> tuple[set[str], str]:
    """What R8 leaves of an app that opens a bundle and runs it: its classes, and the fields and methods of those with new names."""
    source = folder / "App.kt"
    source.write_text(APP)
    android = library("android-all-*.jar")
    runtime, stdlib = library("onnxruntime-android.jar"), library("kotlin-stdlib-2*.jar")
    app = compiled("shrunk-app", [source], [loader_jar(), android, runtime, stdlib])
    keep, out = folder / "app.pro", folder / "out.jar"
    keep.write_text("-keep class App { *; }\n-dontwarn **\n-ignorewarnings\n")
    given = [option for rule in (keep, *rules) for option in ("--pg-conf", str(rule))]
    r8 = ["java", "-XX:TieredStopAtLevel=1", "-cp", str(library("r8-*.jar"))]
    # As class files, which can be looked into; Kotlin's own library stays outside for speed.
    options = ["--release", "--classfile", "--lib", str(android), "--classpath", str(stdlib)]
    jars = [app, loader_jar(), runtime]
    command = [
        *r8,
        "com.android.tools.r8.R8",
        *options,
        *given,
        "--output",
        str(out),
        *map(str, jars),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    names = {
        n.removesuffix(".class") for n in zipfile.ZipFile(out).namelist() if n.endswith(".class")
    }
    renamed = [n.replace("/", ".") for n in names if not n.startswith("ai/")]
    shown = subprocess.run(
        ["javap", "-p", "-cp", str(out), *renamed], capture_output=True, text=True, check=True
    )
    return names, shown.stdout


def test_the_modules_rules_keep_the_runtime_and_the_models_bytes(tmp_path: Path) -> None:
    names, members = shrunk(tmp_path, [ROOT / "runtime" / "kotlin" / "consumer-rules.pro"])
    runtime = zipfile.ZipFile(library("onnxruntime-android.jar")).namelist()
    assert {
        n.removesuffix(".class") for n in runtime if n.startswith("ai/") and n.endswith(".class")
    } <= names
    assert "java.nio.ByteBuffer model;" in members


def test_without_them_both_would_be_lost(tmp_path: Path) -> None:
    names, members = shrunk(tmp_path, [])
    assert "ai/onnxruntime/OrtSession" not in names
    # The session is the one with the lock; none of its fields is a buffer, under whatever name.
    (session,) = [c for c in members.split("Compiled from") if "ReentrantReadWriteLock " in c]
    assert not [m for m in session.splitlines() if "ByteBuffer" in m and "(" not in m]
    assert "java.nio.ByteBuffer model;" not in members
