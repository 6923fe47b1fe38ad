"""May this release run on this board? Everything is compared before a byte is written."""

from __future__ import annotations

import os
from typing import Any

from edgepack_agent import ranges
from edgepack_agent.facts import Facts, python_facts
from edgepack_trust import Refusal

#: A Python bundle's way in; a bundle without it is for a device of another kind.
LOADER = "loader/edgepack_loader.py"
TENSORRT = "TensorrtExecutionProvider"
#: Files beside a bundle's own: journal, state, reports, an engine and its seal.
_FEW_FILES = 64


def check(
    manifest: dict[str, Any],
    facts: Facts,
    app_dir: str,
    needs_bytes: int,
    python: str | None = None,
) -> list[dict[str, Any]]:
    """What was compared, `[{"what", "wanted", "found"}]`: every one holds.

    Args:
        app_dir: the app's folder on the board; it need not be there yet.
        needs_bytes: what uploading and staging will write.
        python: the interpreter that runs the loader; None: it is not looked at.

    Raises:
        Refusal: what is not as the release wants it. Kinds: board (and whatever else the target requires), l4t, tensorrt, arch, sm, memory,
            disk, read-only, python.
    """
    checked = [_is_for_a_board(manifest)]
    for key, wanted in sorted(_requires(manifest).items(), key=_by_cause):
        if key not in ranges.SIZES:
            checked.append(_check_fact(key, wanted, facts, manifest["target"]["name"]))
    checked.append(_check_memory(manifest, facts))
    checked += _check_disk(manifest, app_dir, needs_bytes)
    if python is not None:
        checked.append(_check_python(python))
    return checked


def _is_for_a_board(manifest: dict[str, Any]) -> dict[str, Any]:
    target = manifest["target"]["name"]
    if all(file["path"] != LOADER for file in manifest["files"]):
        raise Refusal(
            "board",
            f"this is a bundle for {target}: it has no {LOADER}, which is what runs on a board",
            "build the bundle for a target with a Python loader: edgepack targets list",
        )
    return {"what": "target", "wanted": LOADER, "found": target}


def _requires(manifest: dict[str, Any]) -> dict[str, str]:
    found = manifest["target"].get("requires", {})
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        why = f"target.requires is {found!r}, no object of texts"
        raise Refusal("manifest", why, "build the bundle again")
    return found


#: The board first, then what runs on it: the first that differs explains the others.
_ORDER = ("arch", "board", "sm", "l4t", "jetpack", "tensorrt", "python", "power_mode")
_KINDS = ("arch", "board", "sm", "l4t", "tensorrt", "python")
_FIX = {
    "arch": "build the bundle for this processor: edgepack targets list",
    "board": "build the bundle for this board: edgepack targets list",
    "sm": "build the bundle for this board: edgepack targets list",
    "l4t": "build the bundle for this board's JetPack, or put the one on the board that the bundle wants",
    "jetpack": "build the bundle for this board's JetPack, or put the one on the board that the bundle wants",
    "tensorrt": "install the TensorRT of the board's JetPack (sudo apt-get install nvidia-tensorrt), or build for the one that is there",
    "python": "install that Python, and let the agent run in it",
    "power_mode": "set it: sudo nvpmodel -m NUMBER (nvpmodel -p --verbose lists them)",
}
_SOURCE = {
    "board": "/proc/device-tree/compatible names no Tegra",
    "l4t": "there is no /etc/nv_tegra_release",
    "jetpack": "the package nvidia-jetpack is not installed",
    "tensorrt": "no package libnvinfer is installed",
    "power_mode": "nvpmodel does not say",
}


def _by_cause(item: tuple[str, str]) -> tuple[int, str]:
    key = item[0]
    return (_ORDER.index(key) if key in _ORDER else len(_ORDER), key)


def _check_fact(key: str, wanted: str, facts: Facts, target: str) -> dict[str, Any]:
    kind = key if key in _KINDS else "board"
    fix = _FIX.get(key, "build the bundle for a target that this board is")
    if key not in _ORDER:
        why = f"target {target} requires {key} {wanted}, of which this board knows nothing"
        raise Refusal(kind, why, fix)
    found = getattr(facts, key)
    if found is None:
        why = f"the {key} of this board is not known ({_SOURCE.get(key, 'it does not say')})"
        raise Refusal(kind, f"{why}; target {target} requires {wanted}", fix)
    versions = tensorrt_versions(found) if key == "tensorrt" else [found]
    if not any(_holds(key, wanted, each) for each in versions):
        at = f" ({facts.model})" if key == "board" and facts.model else ""
        why = f"the {key} of this board is {found}{at}; target {target} requires {wanted}"
        raise Refusal(kind, why, fix)
    return {"what": key, "wanted": wanted, "found": found}


def _holds(key: str, wanted: str, found: str) -> bool:
    try:
        return ranges.holds(key, wanted, found)
    except ValueError as error:
        why = f"cannot compare {key} {found} with {wanted}: {error}"
        fix = "correct `requires` in the target's profile, and build the bundle again"
        raise Refusal("board", why, fix) from error


def tensorrt_versions(text: str) -> list[str]:
    """The versions in `Facts.tensorrt`; what the library says of itself becomes one with dots.

    Source: NvInferVersion.h, NV_TENSORRT_VERSION: up to 9 major·1000 + minor·100 + patch, from 10 on major·10000 + minor·100 + patch.
    """
    return [_dotted(int(each)) if each.isdigit() else each for each in text.split()]


def _dotted(number: int) -> str:
    major = 10000 if number >= 100000 else 1000
    return f"{number // major}.{number % major // 100}.{number % 100}"


def model_bytes(manifest: dict[str, Any]) -> int:
    """How large the model is, with weights in files of their own."""
    return sum(file["size"] for file in manifest["files"] if file["role"] == "model")


def uses_tensorrt(manifest: dict[str, Any]) -> bool:
    """Whether TensorRT is one of the release's providers."""
    return any(each["name"] == TENSORRT for each in manifest["runtime"]["providers"])


def _check_memory(manifest: dict[str, Any], facts: Facts) -> dict[str, Any]:
    wanted = _requires(manifest).get("memory")
    total, available = facts.memory_total, facts.memory_available
    if wanted is not None and (total is None or not _holds("memory", wanted, str(total))):
        has = "is not known" if total is None else f"is {shown(total)}"
        why = (
            f"the memory of this board {has}; target {manifest['target']['name']} requires {wanted}"
        )
        fix = "use a board with more memory, or a smaller model"
        raise Refusal("memory", why, fix)
    # The loader holds the file's bytes while ONNX Runtime makes its own copy of the weights.
    needs = 2 * model_bytes(manifest)
    if available is not None and available < needs:
        raise Refusal(
            "memory",
            f"{shown(available)} of memory are free; the loader needs {shown(needs)} to open a model of {shown(model_bytes(manifest))}",
            "stop what else runs on the board, or build a smaller model (--precision int8)",
        )
    found = "unknown" if available is None else shown(available)
    return {"what": "memory", "wanted": shown(needs), "found": found}


def _check_disk(manifest: dict[str, Any], app_dir: str, needs_bytes: int) -> list[dict[str, Any]]:
    place = os.path.abspath(app_dir)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    disk = os.statvfs(place)
    if disk.f_flag & os.ST_RDONLY:
        why = f"{app_dir} lies on a file system that is mounted read-only"
        raise Refusal("read-only", why, "remount it (mount -o remount,rw), or give another --root")
    if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):
        what = f"the user {os.geteuid()} may not write to {place}"
        fix = "give it to that user (chown), flash as another one, or give another --root"
        raise Refusal("read-only", what, fix)
    # An engine holds the weights once more, and is written beside the one it replaces.
    engine = 2 * model_bytes(manifest) if uses_tensorrt(manifest) else 0
    free, needs = disk.f_bavail * disk.f_frsize, needs_bytes + engine
    asked = _requires(manifest).get("disk")
    if free < needs or (asked is not None and not _holds("disk", asked, str(free))):
        parts = f"{shown(needs)}: {shown(needs_bytes)} of files, {shown(engine)} for an engine"
        if asked is not None:
            parts += f"; target {manifest['target']['name']} requires {asked}"
        why = f"{shown(free)} are free where {app_dir} lies; the release needs {parts}"
        raise Refusal("disk", why, "make room there, or give a --root on a larger disk")
    files = len(manifest["files"]) + _FEW_FILES
    if disk.f_files and disk.f_favail < files:  # 0: the file system has no such limit
        why = f"the file system of {app_dir} has room for {disk.f_favail} more files; the release needs {files}"
        fix = "delete files there: df -i shows how many are in use"
        raise Refusal("disk", why, fix)
    return [
        {"what": "writable", "wanted": app_dir, "found": place},
        {"what": "disk", "wanted": shown(needs), "found": shown(free)},
    ]


def _check_python(python: str) -> dict[str, Any]:
    found = python_facts(python)
    wanted = "3.8 or newer, numpy, onnxruntime"
    if "error" in found:
        why = f"{python}, which is to run the loader, does not run: {found['error']}"
        raise Refusal("python", why, "name another interpreter: --python")
    version, missing = found["version"], " and ".join(found["missing"])
    if ranges.version(version) < (3, 8):
        why = f"{python} is Python {version}; the loader needs 3.8"
        raise Refusal("python", why, "name a newer one: --python")
    if missing:
        why = f"{python} (Python {version}) lacks {missing}"
        fix = "install it for this Python (on a Jetson NVIDIA's onnxruntime-gpu), or name one that has it: --python"
        raise Refusal("python", why, fix)
    return {"what": "python", "wanted": wanted, "found": version}


def shown(size: int) -> str:
    """A size for people."""
    value, unit = float(size), "B"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
