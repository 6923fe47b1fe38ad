"""The Swift loader on Linux: a bundle's own Swift package, built unchanged and run on ONNX Runtime.

The package is compiled in a Debian trixie (tests/setup/swift.sh). Two things of Apple's world have stand-ins, in
`stand-in/`: Microsoft's Swift package, here over libonnxruntime.so, and CryptoKit. CoreML has none.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import yaml

from tests.alone import alone
from tests.conftest import CACHE, ROOT, need

HERE = Path(__file__).resolve().parent
LOADER = ROOT / "runtime" / "swift"
SWIFT = CACHE / "swift"
#: Takes the conformance suite through the loader.
ADAPTER = ROOT / "tests" / "conformance" / "adapters" / "conformance.swift"
#: What Package.swift names, and where it is found here.
UPSTREAM = "https://github.com/microsoft/onnxruntime-swift-package-manager"
#: Of the headers and the library that tests/setup/swift.sh fetches.
VERSION = "1.29.0"
STRICT = ["-warnings-as-errors", "-swift-version", "6"]


def swift_self_test(bundle: Path, programs: Path | None = None) -> dict[str, Any]:
    """What the program `self-test` prints about a bundle: the report, or `{"error": {"kind", "message"}}`.

    `programs`: from `build`; None: the bundle's own.
    """
    done = chroot([inside((programs or build(bundle)) / "self-test"), inside(bundle)])
    answer: dict[str, Any] = json.loads(done.stdout)
    expected = 2 if "error" in answer else 0 if answer["passed"] else 1
    assert done.returncode == expected, f"exit code {done.returncode}, not {expected}: {answer}"
    return answer


def swift_run(bundle: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bundle's answer to one call, by output name."""
    answer: dict[str, Any] = swift_calls(bundle, [inputs])["answers"][0]
    assert "error" not in answer, answer
    return answer


def swift_calls(
    bundle: Path,
    calls: Sequence[Mapping[str, Any]] = (),
    *,
    providers: Sequence[str] | None = None,
    threads: int | None = None,
    images: Sequence[np.ndarray] = (),
    at_once: int = 1,
    sessions: int = 0,
    programs: Path | None = None,
    home: Path | None = None,
) -> dict[str, Any]:
    """One session, any number of calls, each made from `at_once` threads and then as many tasks, and images made inputs.

    A value of a call is an array, or (dtype, shape, bytes) where they shall not agree; an image is uint8 [H, W, 4].
    Before that, `sessions` are opened, run and closed; `resident` is the memory in KiB after each.

    Returns:
        `{"provider", "passed_over", "resident", "answers", "images"}`, or `{"error": {"kind", "message"}}`; an answer is
        arrays by output name, or such an error.
    """
    with tempfile.TemporaryDirectory() as scratch:
        request = {
            "bundle": inside(bundle),
            "providers": providers,
            "threads": threads,
            "calls": [
                [
                    _store(name, x, Path(scratch) / f"{k}-{n}.bin")
                    for n, (name, x) in enumerate(call.items())
                ]
                for k, call in enumerate(calls)
            ],
            "images": [_store_image(x, Path(scratch) / f"image-{k}") for k, x in enumerate(images)],
            "at_once": at_once,
            "sessions": sessions,
            "output": inside(Path(scratch)),
        }
        done = chroot([inside((programs or build(bundle)) / "driver")], json.dumps(request), home)
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        for key in ("answers", "images"):
            answer[key] = [
                {y["name"]: _load(y) for y in one["outputs"]} if "outputs" in one else one
                for one in answer.get(key, [])
            ]
        return answer


def add_loader(bundle: Path) -> None:
    """Put the Swift loader into a sample bundle, as edgepack does when it writes one."""
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    first, runtime = manifest["inputs"][0], manifest["runtime"]
    shape = [d if isinstance(d, int) else 1 for d in first["shape"]]
    values = {
        "app": manifest["release"]["app"],
        "target": "ios",
        "bundle": bundle.name,
        "precision": manifest["model"]["precision"],
        "package": "onnxruntime-c",
        "version": runtime["version"],
        "min_version": runtime["min_version"],
        "providers": ", ".join(p["name"] for p in runtime["providers"]),
        "model_path": manifest["model"]["path"],
        "inputs_table": "",
        "outputs_table": "",
        "input_name": first["name"],
        "input_dtype": first["dtype"],
        "input_shape": ", ".join(map(str, shape)),
        "input_elements": str(int(np.prod(shape))),
        "output_name": manifest["outputs"][0]["name"],
    }
    (bundle / "build.log").touch()
    for source, place in yaml.safe_load((LOADER / "runtime.yaml").read_text())["files"].items():
        text = (LOADER / source).read_text()
        (bundle / place).parent.mkdir(parents=True, exist_ok=True)
        (bundle / place).write_text(
            Template(text).substitute(values) if source.endswith(".in") else text
        )


def build(bundle: Path) -> Path:
    """The folder of four programs, compiled once for one bundle: its own `self-test`, our `driver`, the adapter
    `conformance`, and `readme`, the Swift out of the bundle's README.md."""
    package = [bundle / name for name in ("Package.swift", "README.md", "manifest.json")]
    package += sorted(p for p in (bundle / "loader").rglob("*") if p.is_file())
    ours = [p for p in HERE.rglob("*") if p.suffix in (".swift", ".in", ".c", ".modulemap")]
    ours = [Path(__file__), ADAPTER, *sorted(ours)]
    digest = hashlib.sha256()
    for path in (*package, *ours):
        digest.update(path.read_bytes())
    place = need(SWIFT / "root", "swift.sh").parent / "build" / digest.hexdigest()[:16]
    with alone(place.parent), tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        if place.exists():
            return place
        built, new = _compile(bundle, Path(scratch)), Path(scratch) / "programs"
        new.mkdir()
        for name in (
            "self-test",
            "driver",
            "readme",
            "conformance",
            "Modules/CryptoKit.swiftmodule",
        ):
            shutil.copy(built / name, new)
        (resources,) = built.glob("*_Edgepack.resources")
        shutil.copytree(resources, new / resources.name)
        new.rename(place)
    return place


def _compile(bundle: Path, scratch: Path) -> Path:
    app, shelf = scratch / "app", scratch / "shelf"
    package = Template((HERE / "app" / "Package.swift.in").read_text())
    snippet = (bundle / "README.md").read_text().split("```swift\n")[1].split("```")[0]
    for path, text in {
        "Package.swift": package.substitute(bundle=inside(bundle), name=bundle.name),
        "Sources/driver/main.swift": (HERE / "app" / "driver.swift").read_text(),
        "Sources/readme/main.swift": snippet,
        "Sources/conformance/main.swift": ADAPTER.read_text(),
    }.items():
        (app / path).parent.mkdir(parents=True, exist_ok=True)
        (app / path).write_text(text)
    upstream = _publish_stand_in(shelf)
    swift = ["--package-path", inside(app), "--scratch-path", inside(scratch / "build")]
    for name in ("cache", "config", "security"):
        swift += [f"--{name}-path", inside(shelf / name)]
    mirror = ["--original", UPSTREAM, "--mirror", f"file://{inside(upstream)}"]
    flags = ["-c", "release"]
    for flag in STRICT:
        flags += ["-Xswiftc", flag]
    for flag in (f"-L{inside(SWIFT / 'lib')}", "-rpath", inside(SWIFT / "lib")):
        flags += ["-Xlinker", flag]
    for command in (
        ["swift", "package", *swift, "config", "set-mirror", *mirror],
        ["swift", "build", *swift, *flags],
        ["swift", "build", *swift, *flags, "--product", "self-test"],
    ):
        done = chroot(command)
        output = done.stdout + done.stderr
        assert done.returncode == 0, f"{' '.join(command)}\n{output}"
        assert "warning" not in output, output
    return scratch / "build" / "release"


def chroot(
    command: Sequence[str], text: str = "", home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the Debian trixie, where this machine's files are below /host."""
    root = need(SWIFT / "root", "swift.sh")
    (root / "host").mkdir(exist_ok=True)
    enter = 'mount --rbind /proc "$0/proc" && mount --rbind / "$0/host" && exec chroot "$0" "$@"'
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": inside(home) if home else "/root",
        "LANG": "C.UTF-8",
    }
    return subprocess.run(
        [*unshare, "sh", "-c", enter, str(root), *command],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=600,
    )


def _publish_stand_in(shelf: Path) -> Path:
    """A Git repository that answers for Microsoft's package, tagged as the version of our headers."""
    upstream = shelf / UPSTREAM.rpartition("/")[2]
    shutil.copytree(HERE / "stand-in", upstream)
    include = upstream / "Sources" / "onnxruntime" / "include" / "onnxruntime"
    include.mkdir()
    for name in ("onnxruntime_c_api.h", "onnxruntime_ep_c_api.h", "onnxruntime_error_code.h"):
        shutil.copy(need(SWIFT / "include" / "onnxruntime" / name, "swift.sh"), include)
    git = [
        "git",
        "-C",
        inside(upstream),
        "-c",
        "user.name=tests",
        "-c",
        "user.email=tests@localhost",
    ]
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["commit", "-qm", "stand-in"],
        ["tag", VERSION],
    ):
        done = chroot([*git, *arguments])
        assert done.returncode == 0, done.stderr
    return upstream


def inside(path: Path) -> str:
    """What `path` is called in the chroot."""
    return f"/host{path.resolve()}"


def _store(name: str, x: Any, path: Path) -> dict[str, Any]:
    dtype, shape, data = x if isinstance(x, tuple) else (x.dtype.name, x.shape, x.tobytes())
    path.write_bytes(data)
    return {"name": name, "dtype": dtype, "shape": list(shape), "path": inside(path)}


def _store_image(x: np.ndarray, path: Path) -> dict[str, Any]:
    path.write_bytes(x.tobytes())
    return {"path": inside(path), "width": x.shape[1], "height": x.shape[0]}


def _load(y: dict[str, Any]) -> np.ndarray:
    data = Path(y["path"].removeprefix("/host")).read_bytes()
    array = np.frombuffer(data, dtype=y["dtype"]).reshape(y["shape"])
    floats = np.array(y["floats"], dtype=np.float32).reshape(y["shape"])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(floats, array.astype(np.float32))  # what Tensor.floats says
    return array
