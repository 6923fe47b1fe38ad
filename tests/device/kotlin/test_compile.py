"""The loader is legal on Android: its own classes, onnxruntime-android, and nothing newer than API 24."""

from __future__ import annotations

import re
from pathlib import Path
from string import Template

import pytest

from tests.conftest import ROOT
from tests.device.kotlin.jvm import (
    LOADER,
    CompileError,
    Jvm,
    classpath,
    compiled,
    library,
    loader_jar,
)


def missing_in_android_24(jvm: Jvm, jar: Path) -> list[str]:
    signature = library("android-api-level-24-*.signature")
    return jvm.ask("missing-in-android", jar=jar, signature=signature)["missing"]


def test_loader_compiles_for_android_without_a_warning() -> None:
    assert loader_jar().exists()


def test_loader_calls_nothing_android_7_lacks(jvm: Jvm) -> None:
    assert missing_in_android_24(jvm, loader_jar()) == []


def test_the_android_check_sees_what_android_7_lacks(jvm: Jvm) -> None:
    """The driver calls java.util.Base64, which came with API 26."""
    assert any("java.util.Base64" in line for line in missing_in_android_24(jvm, classpath()[0]))


def test_the_loader_stays_small() -> None:
    """One file is the loader; an app may do without the self-test in its release, and without images."""
    sizes = {path.name: path.stat().st_size for path in LOADER}
    assert set(sizes) == {"EdgepackBundle.kt", "SelfTest.kt", "EdgepackImage.kt"}
    assert sizes["EdgepackBundle.kt"] <= 12 * 1024
    assert sizes["SelfTest.kt"] <= 1.75 * 1024
    assert len((LOADER[0].parent / "EdgepackBundle.kt").read_text().splitlines()) <= 250


@pytest.mark.parametrize("without", ["SelfTest.kt", "EdgepackImage.kt"])
def test_an_app_may_do_without_what_it_does_not_use(without: str) -> None:
    android = [library("onnxruntime-android.jar"), library("android-all-*.jar")]
    rest = [path for path in LOADER if path.name != without]
    assert compiled(f"no-{without}", rest, [*android, library("kotlin-stdlib-*.jar")]).exists()


def test_a_warning_fails_the_compilation(tmp_path: Path) -> None:
    source = tmp_path / "Warned.kt"
    source.write_text("fun f() { val unused = 1 }\n")
    with pytest.raises(CompileError, match="warning"):
        compiled("warned", [source], [library("kotlin-stdlib-*.jar")])


def test_readme_code_compiles_for_android(tmp_path: Path) -> None:
    values = {
        "app": "digits",
        "target": "android",
        "bundle": "digits-android",
        "precision": "fp32",
        "package": "com.microsoft.onnxruntime:onnxruntime-android",
        "version": "1.29.0",
        "min_version": "1.29.0",
        "providers": "XnnpackExecutionProvider, CPUExecutionProvider",
        "model_path": "model/digits.ort",
        "inputs_table": "| image | float32 | [1, 8, 8, 1] |",
        "outputs_table": "| probabilities | float32 | [1, 10] |",
        "input_name": "image",
        "input_dtype": "float32",
        "input_shape": "1, 8, 8, 1",
        "input_elements": "64",
        "output_name": "probabilities",
        "requires_android_api": "24",
    }
    template = (ROOT / "runtime" / "kotlin" / "README.md.in").read_text()
    text = Template(template).substitute(values)
    code = re.findall(r"```kotlin\n(.*?)```", text, re.S)
    assert code, "README.md.in shows no Kotlin"
    source = tmp_path / "Readme.kt"
    lines = "\n".join(code).splitlines()
    imports = [line for line in lines if line.startswith("import ")]
    source.write_text("\n".join([*imports, *(line for line in lines if line not in imports)]))
    android = [library("onnxruntime-android.jar"), library("android-all-*.jar")]
    kotlin = [library("kotlin-stdlib-*.jar"), library("kotlinx-coroutines-core-jvm-*.jar")]
    assert compiled("readme", [source], [loader_jar(), *android, *kotlin]).exists()
