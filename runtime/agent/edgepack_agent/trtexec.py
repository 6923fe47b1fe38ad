"""NVIDIA's trtexec: the command line that each version takes, what its failures mean, and whether its engine answers right.

Sources: github.com/NVIDIA/TensorRT, samples/common/sampleOptions.cpp at 8.5, 8.6, 9.1, 10.3, 10.13 and 10.16 (which options there are), and
samples/common/sampleReporting.cpp (`--exportOutput`).
"""

from __future__ import annotations

import json
import math
import os
import re
import struct
import tempfile
from typing import Any, Callable, NamedTuple

from edgepack_agent import ranges
from edgepack_agent.preflight import TENSORRT
from edgepack_agent.probe import ended
from edgepack_agent.run import Ran, run
from edgepack_trust import Refusal

_WORKSPACE = "trt_max_workspace_size"
_PROVE_SECONDS = 300.0
#: struct's letters for what --loadInputs takes byte by byte in every version; 64-bit integers become 32-bit ones before TensorRT 10.
_FORMATS = {
    **{"float32": "f", "float16": "e", "int32": "i", "uint8": "B", "bool": "?"},
    **{"int64": "q"},
}


class Build(NamedTuple):
    """One engine to be built: `onnx` below `release`, `part` where it is written, `seconds` it may take."""

    program: str
    version: str
    flags: list[str]
    release: str
    manifest: dict[str, Any]
    part: str
    timing_cache: str
    seconds: float


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a TensorRT version."""
    return ranges.version(version)


def flags(version: str, manifest: dict[str, Any]) -> list[str]:
    """What shapes the engine, for this version of TensorRT.

    From 9 on a network can be strongly typed: the engine computes in the types that the ONNX file has, which were measured when it was built.
    Before, TensorRT chooses, and has to be allowed FP16 and INT8: as the manifest allows it onnxruntime's provider.
    """
    providers = {p["name"]: p["options"] for p in manifest["runtime"]["providers"]}
    options: dict[str, str] = providers.get(TENSORRT, {})
    # Without a unit it is MiB in every version; units came with 8.6.
    workspace = int(options.get(_WORKSPACE, 2 << 30)) >> 20
    chosen = [f"--memPoolSize=workspace:{workspace}"]
    if release_of(version) >= (9,):
        return [*chosen, "--stronglyTyped"]
    return chosen + ["--" + n for n in ("fp16", "int8") if options.get(f"trt_{n}_enable") == "1"]


def build(job: Build, progress: Callable[[str], None]) -> None:
    """Nothing, once `job.part` is an engine.

    Raises:
        Refusal: kind `engine`: trtexec refused the model, ran out of memory or time, or left no engine.
    """
    only = "--skipInference" if release_of(job.version) >= (8, 6) else "--buildOnly"
    argv = [
        *(job.program, "--onnx=" + job.manifest["model"]["path"], "--saveEngine=" + job.part),
        *(*job.flags, "--timingCacheFile=" + job.timing_cache, only),
    ]
    progress("trtexec builds the engine; this takes minutes")

    def waiting(passed: float) -> None:
        progress(f"trtexec has been building for {passed:.0f} s of at most {job.seconds:.0f} s")

    ran = run(argv, seconds=job.seconds, cwd=job.release, waiting=waiting)
    if ran.timed_out:
        why = f"trtexec was still building after {job.seconds:.0f} s"
        raise Refusal(
            "engine", why, "give it longer: --engine-seconds; or go without: --engine none"
        )
    if ran.code:
        raise _refusal(ran, job)
    try:
        size = os.path.getsize(job.part)
    except OSError:
        size = 0
    if not size:
        raise Refusal(
            "engine",
            f"trtexec ended well, and wrote no engine (0 bytes at {job.part})",
            "see whether the disk is full (df -h), and run it by hand: " + " ".join(argv),
        )


#: The misspelling is TensorRT's.
OUT_OF_MEMORY = re.compile(
    r"out of memory|Requested amount of GPU memory|memory is insufficient|insuff?icient memory|OutOfMemory|std::bad_alloc"
    r"|NvMapMemAlloc|Cannot allocate memory|cudaErrorMemoryAllocation",
    re.IGNORECASE,
)
MEMORY_FIX = "stop what else runs (a desktop: sudo systemctl isolate multi-user.target), add swap, or build a smaller model (int8)"
_UNKNOWN_OPTION = re.compile(r"Unknown option: *(\S+)")
_ERRORS = re.compile(r"^.*\[E\] *(.*)$", re.MULTILINE)


def _refusal(ran: Ran, job: Build) -> Refusal:
    """Why trtexec failed, from what it printed. A process that is killed without a word was killed by the kernel, for its memory."""
    text = ran.stdout + "\n" + ran.stderr
    errors = [re.sub(r"^\[TRT\] *", "", line).strip() for line in _ERRORS.findall(text)]
    line = _out_of_memory(text)
    if line is None and ran.code == -9 and not errors:
        line = "the kernel killed it"
    if line is not None:
        return Refusal(
            "engine",
            f"trtexec ran out of memory: {line}",
            MEMORY_FIX,
        )
    option = _UNKNOWN_OPTION.search(text)
    if option:
        why = f"trtexec does not know {option.group(1)}: it is not of TensorRT {job.version}"
        fix = "install trtexec and TensorRT of one version: sudo apt-get install libnvinfer-bin"
        return Refusal("engine", why, fix)
    said = "; ".join(errors[:3]) or "it says no more"
    return Refusal(
        "engine",
        f"trtexec {ended(ran.code)}: {said[:1000]}",
        "edgepack check says what TensorRT takes of this model; or go without: --engine none",
    )


def _out_of_memory(text: str) -> str | None:
    """The line that says so. A warning counts only where no tactic was left: TensorRT passes over those that do not fit."""
    lines = [line for line in text.splitlines() if OUT_OF_MEMORY.search(line)]
    fatal = [line for line in lines if not re.search(r"\[[WIV]\]", line)]
    if not fatal and "Could not find any implementation" not in text:
        return None
    for line in (*fatal, *lines):
        return re.sub(r"^\[[^\]]*\] \[\w\] (\[TRT\] )?", "", line).strip()[:500]
    return None


# Does the engine answer right?


def prove(job: Build, progress: Callable[[str], None]) -> dict[str, Any]:
    """What the engine at `job.part` answers to the golden inputs: `{"proven": True, "cases": …}`, or `{"proven": False, "because"}`.

    Raises:
        Refusal: kind `engine`: an answer is off, or trtexec cannot run the engine it built.
    """
    why = _unprovable(job)
    if why is not None:
        return {"proven": False, "because": why}
    cases = []
    for case in job.manifest["golden"]:
        progress(f"trtexec answers golden case {case['name']}")
        answers = _answers(job, case)
        for want in case["expect"]:
            cases.append(_compared(job.release, case["name"], answers.get(want["name"]), want))
    missed = [case for case in cases if not case["passed"]]
    if missed:
        worst = missed[0]
        off = "not finite" if worst["max_abs"] is None else worst["max_abs"]
        raise Refusal(
            "engine",
            f"TensorRT's engine answers otherwise: golden case {worst['case']}, output {worst['output']} against {worst['from']}: "
            f"max |a−b| {off}, allowed {worst['atol']:.3g} + {worst['rtol']:.3g}·|b|",
            "build the bundle in another precision (--precision fp32), or go without: --engine none",
        )
    return {"proven": True, "cases": cases}


def measure(job: Build, progress: Callable[[str], None]) -> dict[str, Any] | None:
    """How long one inference takes, copies to and from the GPU included: `{"median_ms", "p95_ms", "min_ms", "max_ms"}`.

    None where trtexec does not say.

    Raises:
        Refusal: kind `engine`: it cannot run the engine, which on a full disk trtexec may have written in part without a word.
    """
    progress("trtexec times the engine")
    argv = [job.program, "--loadEngine=" + job.part, "--duration=3"]
    ran = run(argv, seconds=_PROVE_SECONDS, cwd=job.release)
    if ran.timed_out:
        why = f"trtexec did not run the engine within {_PROVE_SECONDS:.0f} s"
        raise Refusal("engine", why, "run it by hand: " + " ".join(argv))
    if ran.code:
        raise _refusal(ran, job)
    line = re.search(r"\[I\] Latency: (min = .*)", ran.stdout)
    if line is None:
        return None
    said = dict(re.findall(r"(min|max|median|percentile\(95%\)) = ([\d.]+) ms", line.group(1)))
    names = {"min": "min_ms", "median": "median_ms", "percentile(95%)": "p95_ms", "max": "max_ms"}
    return {name: float(said[word]) for word, name in names.items() if word in said}


def _unprovable(job: Build) -> str | None:
    """Why trtexec cannot be given the golden inputs as they are; None if it can."""
    if not job.manifest["golden"]:
        return "the release has no golden cases"
    for case in job.manifest["golden"]:
        for golden in (*case["inputs"], *case["expect"]):
            name, dtype = golden["name"], golden["dtype"]
            if any(letter in name for letter in ",'\""):
                return f"the name {name!r} cannot be given to trtexec"
            narrowed = dtype == "int64" and release_of(job.version) < (10,)
            if dtype not in _FORMATS or narrowed:
                return f"{name} is {dtype}, which TensorRT {job.version} takes otherwise"
    return None


def _answers(job: Build, case: dict[str, Any]) -> dict[str, list[float]]:
    inputs = ",".join(f"{golden['name']}:{golden['path']}" for golden in case["inputs"])
    with tempfile.TemporaryDirectory(prefix="edgepack-engine-") as folder:
        exported = os.path.join(folder, "answers.json")
        argv = [
            *(job.program, "--loadEngine=" + job.part, "--loadInputs=" + inputs),
            *("--exportOutput=" + exported, "--iterations=1", "--warmUp=0", "--duration=0"),
        ]
        ran = run(argv, seconds=_PROVE_SECONDS, cwd=job.release)
        if ran.timed_out:
            why = f"trtexec did not answer golden case {case['name']} within {_PROVE_SECONDS:.0f} s"
            fix = "run it by hand: " + " ".join(argv)
            raise Refusal("engine", why, fix)
        if ran.code:
            raise _refusal(ran, job)
        try:
            with open(exported, encoding="utf-8") as file:
                text = file.read()
            # C++ prints what JSON has other words for.
            text = re.sub(r"(?<=[\[,] )(-?)nan(?=[ ,])", "NaN", text)
            text = re.sub(r"(?<=[\[,] )(-?)inf(?=[ ,])", r"\1Infinity", text)
            return {output["name"]: list(output["values"]) for output in json.loads(text)}
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = f"trtexec gave no answer to golden case {case['name']}: {error}"
            raise Refusal("engine", why, "run it by hand: " + " ".join(argv)) from error


def _compared(
    release: str, case: str, got: list[float] | None, want: dict[str, Any]
) -> dict[str, Any]:
    """As the loader compares, and 5e-6·|a| more: trtexec prints six digits."""
    with open(os.path.join(release, want["path"]), "rb") as file:
        data = file.read()
    letter = _FORMATS[want["dtype"]]
    expected = [float(v) for (v,) in struct.iter_unpack("<" + letter, data)]
    atol, rtol = want["atol"], want["rtol"]
    names = {"case": case, "output": want["name"], "from": want["from"], "atol": atol, "rtol": rtol}
    if got is None or len(got) != len(expected):
        what = "no such output" if got is None else f"{len(got)} values, not {len(expected)}"
        return {**names, "max_abs": what, "passed": False}
    pairs = [(float(a), b) for a, b in zip(got, expected)]
    passed, worst = True, 0.0
    for a, b in pairs:
        if a == b or (math.isnan(a) and math.isnan(b)):
            continue
        off = abs(a - b)
        passed = passed and math.isfinite(off) and off <= atol + rtol * abs(b) + 5e-6 * abs(a)
        worst = max(worst, off if math.isfinite(off) else math.inf)
    return {**names, "max_abs": worst if math.isfinite(worst) else None, "passed": passed}
