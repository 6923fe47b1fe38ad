"""What this board is: read, never guessed. What cannot be told is None."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import edgepack_loader

from edgepack_agent.run import run

#: Where Jetson Linux has its own programs; a user's PATH may lack them.
_SYSTEM = "/usr/sbin:/usr/bin:/sbin:/bin"


class Facts(NamedTuple):
    """What a release may depend on. Sizes in bytes; None: unknown.

    Attributes:
        arch: as `uname -m` has it.
        board: the chip, as in the device tree: `tegra234`.
        model: the board's name, as its device tree gives it.
        l4t: `36.4.3`.
        jetpack, tensorrt: versions of the packages, as dpkg has them; of TensorRT several, with spaces between, where several are
            installed, and what the library itself says (`100300`) where no package is.
        sm: the GPU's compute capability without dot: `87`.
        power_mode: the name that `nvpmodel -q` gives it.
        python: of the interpreter that runs this.
        clock: seconds since 1970.
    """

    arch: str | None = None
    board: str | None = None
    model: str | None = None
    l4t: str | None = None
    jetpack: str | None = None
    tensorrt: str | None = None
    sm: str | None = None
    memory_total: int | None = None
    memory_available: int | None = None
    power_mode: str | None = None
    python: str | None = None
    boot_id: str | None = None
    clock: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The facts, ready for JSON."""
        return dict(self._asdict())


def read(root: str = "/") -> Facts:
    """The facts of the board whose file system is at `root`. Programs and libraries are asked only at `/`.

    Board, L4T, TensorRT and SM are read by the loader's own code, so that a preflight never says otherwise than the loader.

    Sources: Jetson Linux developer guide (the device tree's `compatible`; `nvpmodel -q`); proc(5), `/proc/meminfo`; random(4), boot_id.
    """
    here = root == "/"
    board = edgepack_loader.Board.read(Path(root))
    chip = re.search(r"tegra\d+", _text(root, "proc/device-tree/compatible"))
    memory = dict(re.findall(r"^(\w+): +(\d+) kB$", _text(root, "proc/meminfo"), re.MULTILINE))
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    return Facts(
        arch=os.uname().machine,
        board=chip.group() if chip else None,
        model=board.board or None,
        l4t=board.l4t or None,
        jetpack=_jetpack(root),
        tensorrt=board.tensorrt or None,
        sm=board.sm or None,
        memory_total=int(total) << 10 if total else None,
        memory_available=int(available) << 10 if available else None,
        power_mode=power_mode() if here else None,
        python=platform.python_version(),
        boot_id=_text(root, "proc/sys/kernel/random/boot_id").strip() or None,
        clock=int(time.time()),
    )


def program(name: str, *places: str) -> str | None:
    """Where a program lies: on PATH, where the system has its own, or in one of the folders `places`."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), _SYSTEM, *places]))


def _text(root: str, path: str) -> str:
    try:
        with open(os.path.join(root, path), "rb") as file:
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _jetpack(root: str) -> str | None:
    """JetPack has no file of its own: it is a package that depends on others, and it may never have been installed."""
    query = program("dpkg-query")
    if query is None:
        return None
    form = "${db:Status-Abbrev}${Version}\n"
    admin = os.path.join(root, "var/lib/dpkg")
    for package in ("nvidia-jetpack", "nvidia-jetpack-runtime"):
        ran = run([query, "--admindir=" + admin, "-W", "-f", form, package], seconds=30)
        found = re.match(r"[ih]i +(\S+)$", ran.stdout, re.MULTILINE)
        if found:
            return found.group(1)
    return None


def power_mode() -> str | None:
    """The name of the board's power mode, as nvpmodel gives it."""
    nvpmodel = program("nvpmodel")
    if nvpmodel is None:
        return None
    # Its exit code says nothing: for a user who is not root it names the mode, then fails to read the rest.
    found = re.search(r"^NV Power Mode: *(\S+)$", run([nvpmodel, "-q"], seconds=15).stdout, re.M)
    return found.group(1) if found else None


def python_facts(python: str) -> dict[str, Any]:
    """What another interpreter is: `{"version", "missing": [modules]}`, or `{"error"}` where it does not run."""
    code = (
        "import importlib.util, json, platform\n"
        "names = ('numpy', 'onnxruntime')\n"
        "missing = [n for n in names if not importlib.util.find_spec(n)]\n"
        "print(json.dumps({'version': platform.python_version(), 'missing': missing}))"
    )
    ran = run([python, "-B", "-c", code], seconds=60)
    try:
        found: dict[str, Any] = json.loads(ran.stdout)
    except ValueError:
        return {"error": (ran.stderr.strip().splitlines() or [f"it ends with {ran.code}"])[-1]}
    return found
