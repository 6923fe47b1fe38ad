"""The Kotlin loader on the desktop JVM, over Android 14's own framework (Robolectric) and ONNX Runtime's own Java package.

The loader is compiled against Android's classes (API 24) and onnxruntime-android, as an app would; the classes that come
out are what runs here. Compiled jars are kept by content.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tests.alone import alone
from tests.conftest import CACHE, ROOT, need

HERE = Path(__file__).parent
LOADER = sorted((ROOT / "runtime" / "kotlin" / "src").rglob("*.kt"))
#: ART runs Java 8 bytecode and, below API 33, little more of Java's library. Warnings are errors.
FLAGS = ("-no-stdlib", "-no-reflect", "-jvm-target", "1.8", "-Xjdk-release=8", "-Wextra", "-Werror")


class LoaderError(Exception):
    """The loader refused: `kind` is its error kind."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind
        self.message = message


class CompileError(Exception):
    """kotlinc's own words."""


def library(pattern: str, folder: str = "lib") -> Path:
    """The one fetched file of that name."""
    (path,) = need(CACHE / "kotlin" / folder, "kotlin.sh").glob(pattern)
    return path


def libraries(folder: str) -> list[Path]:
    """All jars in a fetched folder."""
    return sorted(need(CACHE / "kotlin" / folder, "kotlin.sh").glob("*.jar"))


def compiled(
    name: str, sources: Sequence[Path], classpath: Sequence[Path], flags: Sequence[str] = FLAGS
) -> Path:
    """A jar of `sources`, out of the cache where the same text was compiled before.

    Raises:
        CompileError: an error or a warning.
    """
    digest = hashlib.sha256(repr((flags, [jar.name for jar in classpath])).encode())
    for source in sources:
        digest.update(source.read_bytes())
    jar = CACHE / "kotlin" / "compiled" / f"{name}-{digest.hexdigest()[:16]}.jar"
    compiler = library("kotlin-compiler-embeddable-*.jar").parent / "*"
    with alone(jar.parent), tempfile.TemporaryDirectory(dir=jar.parent) as scratch:
        if jar.exists():
            return jar
        built = Path(scratch) / jar.name
        # The C1 compiler alone: a run this short never earns C2 back.
        java = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", str(compiler)]
        main = "org.jetbrains.kotlin.cli.jvm.K2JVMCompiler"
        inputs = ["-cp", joined(classpath), *map(str, sources), "-d", str(built)]
        done = subprocess.run([*java, main, *flags, *inputs], capture_output=True, text=True)
        if done.returncode != 0:
            raise CompileError(done.stderr)
        for old in jar.parent.glob(f"{name}-*.jar"):
            old.unlink()
        built.replace(jar)
    return jar


def loader_jar() -> Path:
    """The loader, compiled against what it meets on a phone."""
    android = [library("onnxruntime-android.jar"), library("android-all-*.jar")]
    return compiled("loader", LOADER, [*android, library("kotlin-stdlib-*.jar")])


def classpath() -> list[Path]:
    """All that the driver runs on. Robolectric wants some Android outside its own; API 24's will do."""
    loader = loader_jar()
    names = ("onnxruntime-1*", "kotlin-stdlib-*", "animal-sniffer-1*", "android-all-*")
    jars = [*(library(f"{name}.jar") for name in names), *libraries("robolectric")]
    sources = [HERE / "Driver.kt", ROOT / "tests" / "conformance" / "adapters" / "Conformance.kt"]
    return [compiled("driver", sources, [loader, *jars]), loader, *jars]


def apk(bundle: Path, place: Path, *, compressed: bool) -> Path:
    """An APK (a ZIP file) with the bundle as assets, in a folder of its name; stored entries begin at multiples of 4, as zipalign does."""
    with zipfile.ZipFile(place, "w") as archive:
        for file in sorted(p for p in bundle.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(f"assets/{bundle.name}/{file.relative_to(bundle).as_posix()}")
            info.compress_type = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
            assert archive.fp is not None
            begin = archive.fp.tell() + 30 + len(info.filename)
            info.extra = bytes(-begin % 4)
            archive.writestr(info, file.read_bytes())
    return place


class Jvm:
    """A JVM that answers requests until it is left; see Driver.kt for the tasks."""

    def __enter__(self) -> Jvm:
        offline = ["-Drobolectric.offline=true", f"-Drobolectric.dependency.dir={_instrumented()}"]
        # Robolectric reaches into java.io for openFd; it is told so by build tools.
        java = ["java", "-XX:+UseSerialGC", "--add-opens", "java.base/java.io=ALL-UNNAMED"]
        command = [*java, *offline, "-cp", joined(classpath()), "DriverKt"]
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1"},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=60)
        self._log.close()

    def ask(self, task: str, **request: Any) -> dict[str, Any]:
        """The driver's answer. With the source "assets" or "compressed assets", the bundle is opened out of an APK.

        Raises:
            LoaderError: the loader refused; `kind` is the Java class where it is not an EdgepackError.
        """
        source = request.get("source", "")
        if source.endswith("assets"):
            with tempfile.TemporaryDirectory() as scratch:
                place = apk(
                    Path(request["bundle"]),
                    Path(scratch) / "app.apk",
                    compressed=source.startswith("compressed"),
                )
                return self._ask({"task": task, "apk": place, **request})
        return self._ask({"task": task, **request})

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request, default=str) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            self._log.seek(0)
            raise AssertionError(f"the JVM died: {self._log.read()[-4000:]}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise LoaderError(answer["error"]["kind"], answer["error"]["message"])
        return answer

    def self_test(self, bundle: Path, **options: Any) -> dict[str, Any]:
        """The self-test's report, with the session's under `report`."""
        return self.ask("self-test", bundle=bundle, **options)

    def run(
        self, bundle: Path, inputs: dict[str, np.ndarray], **options: Any
    ) -> dict[str, np.ndarray]:
        """The outputs, by name."""
        answer = self.ask("run", bundle=bundle, inputs=tensors(inputs), **options)
        return {
            y["name"]: np.frombuffer(base64.b64decode(y["data"]), y["dtype"]).reshape(y["shape"])
            for y in answer["outputs"]
        }


def jvm_self_test(bundle: Path) -> dict[str, Any]:
    """The report of the loader's self-test of `bundle`, in a JVM of its own."""
    with Jvm() as jvm:
        return jvm.self_test(bundle)


def jvm_run(bundle: Path, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the loader answers to `inputs`, in a JVM of its own."""
    with Jvm() as jvm:
        return jvm.run(bundle, inputs)


def tensors(inputs: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """`inputs` as the driver reads them."""
    return [
        {
            "name": name,
            "dtype": x.dtype.name,
            "shape": list(x.shape),
            "data": base64.b64encode(x.tobytes()).decode(),
        }
        for name, x in inputs.items()
    ]


def _instrumented() -> Path:
    return library("*.jar", "instrumented").parent


def joined(paths: Sequence[Path]) -> str:
    """A class path."""
    return os.pathsep.join(map(str, paths))
