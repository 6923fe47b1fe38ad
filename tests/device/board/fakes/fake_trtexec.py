"""Stands in for trtexec. It takes the options that the real one of a version takes, and prints what a real one printed.

`FAKE_TRTEXEC_VERSION` (10.3.0), `FAKE_TRTEXEC` what happens (success), `FAKE_TRTEXEC_CALLS` a file to which each command line is added.
Its engine is the ONNX file itself, so that its answers are the real CPU's; it prints them as the real one does.

Options by version: github.com/NVIDIA/TensorRT, samples/common/sampleOptions.cpp at release/8.5, v8.6.1, v10.3.0, v10.16.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

RECORDINGS = Path(__file__).resolve().parent / "recordings"
MARK = b"fake engine\n"
_FAILS = ("out-of-memory", "tactics-out-of-memory", "refusal")
#: First version that takes it, first that does not any more.
OPTIONS = {
    **dict.fromkeys(["onnx", "saveEngine", "loadEngine", "memPoolSize"], ((8, 4), (99,))),
    **dict.fromkeys(["timingCacheFile", "loadInputs", "exportOutput"], ((8,), (99,))),
    **dict.fromkeys(["iterations", "warmUp", "duration"], ((8,), (99,))),
    **dict.fromkeys(["fp16", "int8"], ((8,), (11,))),
    # From 8.6 on it is deprecated, and gone in 10.
    "buildOnly": ((8,), (10,)),
    "skipInference": ((8, 6), (99,)),
    "stronglyTyped": ((9,), (99,)),
}


def main(arguments: list[str]) -> int:
    does = os.environ.get("FAKE_TRTEXEC", "success")
    numbers = tuple(map(int, os.environ.get("FAKE_TRTEXEC_VERSION", "10.3.0").split(".")))
    calls = os.environ.get("FAKE_TRTEXEC_CALLS")
    if calls:
        with open(calls, "a", encoding="utf-8") as file:
            file.write(json.dumps(arguments) + "\n")
    factor = 10000 if numbers >= (10,) else 1000
    version = numbers[0] * factor + numbers[1] * 100 + numbers[2]
    banner = f"TensorRT.trtexec [TensorRT v{version}] # trtexec {' '.join(arguments)}"
    print(f"&&&& RUNNING {banner}", flush=True)
    given = dict(argument[2:].partition("=")[::2] for argument in arguments)
    code = unknown(given, numbers)
    if code == 0:
        code = answer(given, does) if "loadEngine" in given else build(given, does, numbers)
    print(f"&&&& {'FAILED' if code else 'PASSED'} {banner}")
    return code


def unknown(given: dict[str, str], numbers: tuple[int, ...]) -> int:
    """github.com/NVIDIA/TensorRT, samples/trtexec/trtexec.cpp: `Unknown option: --buildOnly `."""
    wrong = [k for k in given if not OPTIONS[k][0] <= numbers < OPTIONS[k][1]]
    for name in wrong:
        print(f"[10/05/2025-10:46:31] [E] Unknown option: --{name} {given[name]}")
    return 1 if wrong else 0


def build(given: dict[str, str], does: str, numbers: tuple[int, ...]) -> int:
    place = Path(given["saveEngine"])
    # 8.5 reads a number alone: samples/common/sampleOptions.cpp, "pool:sizeInMiB".
    assert given["memPoolSize"].startswith("workspace:")
    assert given["memPoolSize"].partition(":")[2].isdigit()
    assert Path(given["timingCacheFile"]).parent.is_dir()
    if does == "hang":
        place.write_bytes(b"half an eng")
        time.sleep(600)
    if does == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    replay(does if does in _FAILS or does == "enough-memory-after-all" else "success")
    if does in _FAILS:
        place.write_bytes(b"half an eng")
        return 1
    Path(given["timingCacheFile"]).write_bytes(b"timings")
    if does == "cut":
        place.write_bytes(MARK[:3])
    elif does != "no-file":
        place.write_bytes(b"" if does == "empty" else MARK + Path(given["onnx"]).read_bytes())
    return 0


def answer(given: dict[str, str], does: str) -> int:
    if does == "no-inference":
        replay("no-inference")
        return 1
    if "loadInputs" not in given:
        cut = not Path(given["loadEngine"]).read_bytes().startswith(MARK)
        replay("not-loaded" if cut else "performance")
        return 1 if cut else 0
    if does == "broken":
        # Seen in the wild: the engine cannot be read, and trtexec passes all the same.
        return 0
    import numpy as np
    import onnxruntime

    engine = Path(given["loadEngine"]).read_bytes()
    assert engine.startswith(MARK)
    session = onnxruntime.InferenceSession(engine[len(MARK) :], providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
    files = dict(pair.rsplit(":", 1) for pair in given["loadInputs"].split(","))
    feeds = {
        i.name: np.fromfile(files[i.name], kinds[i.type]).reshape(i.shape)
        for i in session.get_inputs()
    }
    outputs = []
    for spec, value in zip(session.get_outputs(), session.run(None, feeds), strict=True):
        flat = value.ravel().astype(np.float64)
        if does == "off":
            flat = flat + 0.5
        if does == "nan":
            flat[0] = np.nan
        shown = ", ".join(f"{v:.6g}" for v in flat)
        dims = "x".join(map(str, value.shape))
        outputs.append(
            f'{{ "name" : "{spec.name}"\n  , "dimensions" : "{dims}"\n  , "values" : [ {shown} ]\n  }}'
        )
    Path(given["exportOutput"]).write_text("[\n  " + "\n, ".join(outputs) + "\n]\n")
    return 0


def replay(name: str) -> None:
    lines = (RECORDINGS / f"{name}.txt").read_text().splitlines()
    print("\n".join(line for line in lines if not line.startswith("# ")), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
