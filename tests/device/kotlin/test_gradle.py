"""The bundle as a Gradle module: its script compiles against the real plugins' interfaces and stages the bundle as assets.

The Android plugin itself needs Gradle's distribution and an SDK, which no registry has: its objects are stand-ins here
(gradle/fake_kotlin_dsl.kt), its types are real.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

import edgepack
from tests.device.kotlin.jvm import HERE, compiled, joined, libraries, library
from tests.models import conv_model, write

#: What Gradle imports into every script, as far as ours needs it.
IMPORTS = [
    "org.gradle.api.*",
    "org.gradle.api.file.*",
    "org.gradle.api.tasks.*",
    "javax.inject.Inject",
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("module")
    (result,) = edgepack.build(
        write(conv_model(), folder / "tiny.onnx"),
        targets=["android"],
        output_dir=folder,
        app="3d-Tiny",
    )
    return result.bundle


def as_source(script: str) -> str:
    """The script as Gradle compiles it: its body a function of the project, its classes outside."""
    imports = re.findall(r"^import .*$", script, re.M)
    (task,) = re.findall(r"^abstract class .*?^}$", script, re.M | re.S)
    body = script.replace(task, "")
    for line in imports:
        body = body.replace(line, "")
    head = "\n".join([*imports, *(f"import {name}" for name in IMPORTS)])
    return f"{head}\n{task}\nfun Project.script() {{\n{body}\n}}\n"


@pytest.fixture(scope="module")
def evaluated(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    scratch = tmp_path_factory.mktemp("gradle")
    source = scratch / "Script.kt"
    source.write_text(as_source((bundle / "build.gradle.kts").read_text()))
    sam = library("kotlin-sam-with-receiver-*.jar")
    plugin = (
        "plugin:org.jetbrains.kotlin.samWithReceiver:annotation=org.gradle.api.HasImplicitReceiver"
    )
    # android-all has org.json, for the stand-in's answer.
    jars = [*libraries("gradle"), library("android-all-*.jar")]
    fake = HERE / "gradle" / "fake_kotlin_dsl.kt"
    flags = ("-jvm-target", "17", f"-Xplugin={sam}", "-P", plugin)
    jar = compiled(
        "gradle-script",
        [source, fake],
        jars,
        flags=("-no-stdlib", "-no-reflect", "-Werror", *flags),
    )
    opens = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util")]
    command = [
        "java",
        "-XX:TieredStopAtLevel=1",
        *opens,
        "-cp",
        joined([jar, *jars]),
        "Fake_kotlin_dslKt",
    ]
    places = [bundle, scratch / "home", scratch / "assets"]
    done = subprocess.run(
        [*command, *map(str, places)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-4000:]
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def test_the_module_asks_for_the_runtime_and_the_android_version_of_its_target(
    evaluated: dict[str, object],
) -> None:
    assert evaluated["dependencies"] == ["com.microsoft.onnxruntime:onnxruntime-android:1.29.0"]
    assert evaluated["applied"] == ["org.jetbrains.kotlin.android"]
    assert evaluated["android"] == {
        "setNamespace": "io.edgepack.bundle_3d_tiny_android",
        "setCompileSdk": "36",
        "setMinSdk": "24",
        "consumerProguardFiles": "consumer-rules.pro",
        "setSourceCompatibility": "1.8",
        "setTargetCompatibility": "1.8",
    }


def test_what_the_loader_reads_becomes_assets_and_nothing_else(
    evaluated: dict[str, object], bundle: Path
) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    read = {f["path"] for f in manifest["files"] if f["role"] in ("model", "golden")}
    assert evaluated["task"] == "releaseBundleAssets"
    assert evaluated["assets"] == sorted(f"{bundle.name}/{p}" for p in read | {"manifest.json"})


APP = '<manifest package="my.app"><application /></manifest>'
#: As in Microsoft's own package; the one that the tests fetch has an empty manifest.
FAKE_RUNTIME = """<manifest xmlns:android="http://schemas.android.com/apk/res/android" package="ai.onnxruntime">
  <application>
    <provider android:name="ai.onnxruntime.TelemetryInitializer" android:authorities="my.app.telemetry" />
  </application>
</manifest>"""


def merged(folder: Path, manifests: dict[str, str]) -> str:
    """The app's manifest as Android's own merger makes it of these, the first being the app's."""
    for name, text in manifests.items():
        (folder / name).write_text(text)
    main, *libraries_ = [str(folder / name) for name in manifests]
    out = folder / "merged.xml"
    merger = ["java", "-cp", joined(libraries("gradle")), "com.android.manifmerger.Merger"]
    options = ["--main", main, "--libs", ":".join(libraries_), "--out", str(out)]
    done = subprocess.run([*merger, *options], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return out.read_text()


def test_the_module_takes_the_runtimes_telemetry_out_of_the_app(
    bundle: Path, tmp_path: Path
) -> None:
    ours = (bundle / "src/main/AndroidManifest.xml").read_text()
    # The merger alone still wants the name that the Android plugin puts in.
    ours = ours.replace("<manifest ", '<manifest package="io.edgepack.ours" ', 1)
    with_us = merged(tmp_path, {"app.xml": APP, "ours.xml": ours, "runtime.xml": FAKE_RUNTIME})
    assert "my.app.telemetry" not in with_us
    without = merged(tmp_path, {"app.xml": APP, "runtime.xml": FAKE_RUNTIME})
    assert "my.app.telemetry" in without
