"""TensorRT's engine for a release, built on the board it is for, under a name that says all it is bound to.

Who builds it: `onnxruntime` with its TensorRT provider, through the release's own loader, which then runs that very engine; or NVIDIA's
`trtexec`, for apps that use TensorRT without ONNX Runtime. `auto` asks the first, and the second where the first has no TensorRT. One that is
there and fails is a refusal: an app on something slower than it was built for is not what was asked for.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from typing import Any, Callable, Iterable

from edgepack_agent import durable, trtexec
from edgepack_agent.facts import Facts, program
from edgepack_agent.preflight import TENSORRT, tensorrt_versions, uses_tensorrt
from edgepack_agent.probe import loader
from edgepack_trust import Refusal, file_sha256

PLAN = "engine.plan"
#: Of what the loader says of a provider that it passed over: there is none here, or none for this model. Anything else is a failure.
_ABSENT = re.compile(
    r"is built without it$|^a library or the device is missing|^it takes none|^it opens with"
)
_SECONDS = 1800
#: The loader's folders have such names, too.
_KEY = re.compile(r"[0-9a-f]{32}")
#: JetPack's packages put it there, which is on nobody's PATH.
TRTEXEC = "/usr/src/tensorrt/bin"

Progress = Callable[[str], None]


def build(
    release: str,
    engines: str,
    manifest: dict[str, Any],
    facts: Facts,
    options: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """What was built, or why nothing was: `{"built": "onnxruntime" | "trtexec" | "none", "because"?, "key"?, "folder"?, "seconds"?, …}`.

    An engine that is there already, for the same key and with a right seal, is not built again (`"found": True`).

    Args:
        release: the folder of the staged release, `engines`: the app's engines.
        options: `engine` (auto, trtexec, onnxruntime, none), `engine_seconds`, `python`.
        progress: takes a line for people, about once a second.

    Raises:
        Refusal: kind `engine`: what was asked for cannot be built here, or did not prove itself. Nothing half-built is left.
    """
    asked = options.get("engine") or "auto"
    if asked == "none":
        return _nothing("none was asked for")
    if not uses_tensorrt(manifest):
        return _nothing("the release does not use TensorRT")
    durable.make_folder(engines)
    why = "trtexec was asked for"
    if asked in ("auto", "onnxruntime"):
        done = _by_onnxruntime(release, engines, options, progress)
        if done["built"] != "none":
            return done
        if asked == "onnxruntime":
            fix = "install NVIDIA's onnxruntime-gpu for this JetPack, or give --engine auto"
            raise Refusal("engine", "onnxruntime built no engine: " + done["because"], fix)
        why = "onnxruntime has no TensorRT here: " + done["because"]
    place = program("trtexec", TRTEXEC)
    if place is None or facts.tensorrt is None or facts.sm is None:
        missing = "there is no trtexec (/usr/src/tensorrt/bin)"
        if place is not None:
            missing = f"the {'TensorRT' if facts.sm else 'GPU'} of this board is not known"
        if asked == "trtexec":
            fix = "install it: sudo apt-get install libnvinfer-bin tensorrt, or give --engine auto"
            raise Refusal("engine", "trtexec cannot build an engine: " + missing, fix)
        return _nothing(f"{why}; {missing}")
    return _by_trtexec(place, release, engines, manifest, facts, options, progress)


def _nothing(because: str) -> dict[str, Any]:
    return {"built": "none", "because": because}


def _by_onnxruntime(
    release: str, engines: str, options: dict[str, Any], progress: Progress
) -> dict[str, Any]:
    """Open the release once: for a model without free dimensions that builds the engine, and the loader seals it."""
    begin = time.monotonic()
    progress("onnxruntime opens the model; TensorRT builds its engine for minutes if it is new")
    report = loader(release, ["report", "--cache-dir", engines], options, "engine", progress)
    cache, seconds = report.get("engine_cache"), round(time.monotonic() - begin, 3)
    if report["provider"] != TENSORRT:
        why = report["passed_over"].get(TENSORRT) or "it opens with " + report["provider"]
        if not _ABSENT.search(why):
            fix = "see the board's onnxruntime and TensorRT, or go without: --engine none"
            fix = trtexec.MEMORY_FIX if trtexec.OUT_OF_MEMORY.search(why) else fix
            raise Refusal("engine", "onnxruntime's TensorRT built no engine: " + why[:1000], fix)
        return _nothing(why)
    return {
        "built": "onnxruntime",
        "found": bool(cache and any(name.endswith(".engine") for name in cache["kept"])),
        "folder": cache["folder"] if cache else None,
        "key": cache["key"] if cache else None,
        "seconds": seconds,
    }


def key_of(manifest: dict[str, Any], facts: Facts, flags: list[str]) -> dict[str, Any]:
    """All that an engine depends on. Source: TensorRT developer guide, "Serialized engines are not portable"."""
    lines = "".join(
        f"{file['path']}\0{file['sha256']}\n"
        for file in sorted(manifest["files"], key=lambda f: str(f["path"]))
        if file["role"] == "model"
    )
    return {
        "model_sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "tensorrt": facts.tensorrt,
        "sm": facts.sm,
        "board": facts.model,
        "l4t": facts.l4t,
        "flags": flags,
    }


def folder_of(key: dict[str, Any]) -> str:
    """The name of an engine's folder: a hash, so that nothing a board says of itself gets into a path."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def _by_trtexec(
    place: str,
    release: str,
    engines: str,
    manifest: dict[str, Any],
    facts: Facts,
    options: dict[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    version = max(tensorrt_versions(facts.tensorrt or ""), key=trtexec.release_of)
    flags = trtexec.flags(version, manifest)
    key = key_of(manifest, facts, flags)
    folder = os.path.join(engines, folder_of(key))
    plan, seal = os.path.join(folder, PLAN), os.path.join(folder, PLAN + ".sha256")
    report = {"built": "trtexec", "key": key, "folder": folder, "plan": plan, "program": place}
    if _is_sealed(plan, seal):
        return {**report, "found": True, "seconds": 0.0}
    durable.make_folder(folder)
    for left in (plan, seal, plan + ".part"):
        durable.remove(left)
    board = folder_of({**key, "model_sha256": "", "flags": []})
    timing = os.path.join(engines, f"timing-{board}.cache")
    begin = time.monotonic()
    limit = float(options.get("engine_seconds") or _SECONDS)
    try:
        build = trtexec.Build(
            place, version, flags, release, manifest, plan + ".part", timing, limit
        )
        trtexec.build(build, progress)
        proof = trtexec.prove(build, progress)
        proof["latency"] = trtexec.measure(build, progress)
    except BaseException:
        # A timing cache may be what was wrong; without it TensorRT only takes longer.
        durable.remove(timing)
        durable.remove(folder)
        raise
    durable.sync_file(plan + ".part")
    durable.fill(seal, file_sha256(plan + ".part").encode())
    durable.rename(plan + ".part", plan)
    return {**report, "found": False, "seconds": round(time.monotonic() - begin, 3), **proof}


def _is_sealed(plan: str, seal: str) -> bool:
    try:
        with open(seal, encoding="ascii") as file:
            return not os.path.islink(plan) and file.read() == file_sha256(plan)
    except (OSError, ValueError):
        return False


def clear(engines: str, reports: Iterable[str]) -> None:
    """Remove every engine that none of these reports names; none, if one of them cannot be read.

    Args:
        engines: the app's engines, `reports`: of the releases that stay.
    """
    named: set[str] | None = set()
    for place in reports:
        named = _named_in(place, named)
    for name in durable.names(engines):
        if named is not None and _KEY.fullmatch(name) and name not in named:
            durable.remove(os.path.join(engines, name))


def drop_halves(engines: str) -> None:
    """Remove what a build that was cut off left."""
    for name in durable.names(engines):
        folder = os.path.join(engines, name)
        if _KEY.fullmatch(name) and os.path.lexists(os.path.join(folder, PLAN + ".part")):
            durable.remove(folder)


def _named_in(report: str, named: set[str] | None) -> set[str] | None:
    """`named`, and the engines of a report; None once one could not be read."""
    try:
        with open(report, "rb") as file:
            data = json.load(file)
        cache = data["golden"]["report"].get("engine_cache") or {}
        folders = [data["engine"].get("folder"), cache.get("folder")]
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return None
    return None if named is None else named | {os.path.basename(f) for f in folders if f}
