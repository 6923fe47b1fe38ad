"""C++ programs over the loader's header, compiled once for one text."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.alone import alone
from tests.conftest import CACHE, ROOT, need

LOADER = ROOT / "runtime" / "cpp"
WARNINGS = ("-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror")
#: A test stops at the first byte read where there is none, and at the first step into undefined behaviour.
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def compiled(source: Path, flags: Sequence[str] = SANITIZED, compiler: str = "g++") -> Path:
    """The program out of `source`, out of the cache where the same text was compiled before."""
    include = need(CACHE / "cpp" / "include", "cpp.sh")
    need(Path(shutil.which(compiler) or compiler), "cpp.sh")
    texts = [source, *sorted(LOADER.glob("*.hpp"))]
    way = hashlib.sha256(repr((compiler, WARNINGS, flags)).encode()).hexdigest()[:8]
    content = hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()[:16]
    program = CACHE / "cpp" / "compiled" / f"{source.stem}-{way}-{content}"
    with alone(program.parent), tempfile.TemporaryDirectory(dir=program.parent) as scratch:
        if program.exists():
            return program
        built = Path(scratch) / source.stem
        command = [compiler, *WARNINGS, *flags, f"-I{include}", f"-I{LOADER}", source]
        done = subprocess.run(
            [*command, "-o", built, "-ldl"], capture_output=True, text=True, timeout=600
        )
        assert done.returncode == 0, done.stderr[:4000]
        for old in program.parent.glob(f"{source.stem}-{way}-*"):
            old.unlink()
        built.replace(program)
    return program


def library(folder: Path | None = None) -> Path:
    """ONNX Runtime's C library, out of the Python package in `folder`; None: of the one installed."""
    if folder is None:
        found = importlib.util.find_spec("onnxruntime")
        assert found is not None
        assert found.origin is not None
        folder = Path(found.origin).parent.parent
    (path,) = (folder / "onnxruntime" / "capi").glob("libonnxruntime.so.*")
    return path
