"""The two ways from a model to ONNX that the zoo sets side by side, each as the command line of a process.

python -m tests.zoo.convert REQUEST.json    edgepack's own side: `edgepack.convert`, its result or error as JSON
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

from tests.zoo.entries import RTOL, Entry

#: What a user of plain tf2onnx writes for a Keras file. `compile=False`: many old files do not open otherwise.
_KERAS = """
import sys, keras, tf2onnx
model = keras.models.load_model(sys.argv[1], compile=False)
tf2onnx.convert.from_keras(model, output_path=sys.argv[2])
"""
_TF2ONNX_FLAGS = {
    "savedmodel": "--saved-model",
    "graphdef": "--graphdef",
    "checkpoint": "--checkpoint",
    "tflite": "--tflite",
}


def plain(entry: Entry, model: Path, output: Path) -> list[str] | None:
    """tf2onnx as its README has it, all defaults; None where it reads no such format.

    Source: github.com/onnx/tensorflow-onnx, README, "CLI reference" and "Python API reference".
    """
    if entry.format == "onnx":
        return None
    if entry.format in ("keras", "keras-hdf5"):
        return [sys.executable, "-c", _KERAS, str(model), str(output)]
    flag = _TF2ONNX_FLAGS[entry.format]
    command = [sys.executable, "-m", "tf2onnx.convert", flag, str(model), "--output", str(output)]
    for option, names in (("--inputs", entry.graph_inputs), ("--outputs", entry.graph_outputs)):
        if names:
            command += [option, ",".join(names)]
    if "signature" in entry.options:
        command += ["--signature_def", entry.options["signature"]]
    return command


def ours(entry: Entry, model: Path, output: Path, report: Path) -> list[str]:
    """`edgepack.convert`; its result, or its error, goes to `report`."""
    request = report.with_suffix(".request.json")
    request.write_text(
        json.dumps(
            {
                "model": str(model),
                "output": str(output),
                "report": str(report),
                "shapes": entry.shapes or None,
                "options": entry.options,
                "atol": entry.atol,
                "rtol": RTOL,
            }
        )
    )
    return [sys.executable, "-m", "tests.zoo.convert", str(request)]


def intake(options: dict[str, Any]) -> Any:
    """An entry's `options` as edgepack's IntakeRequest."""
    from edgepack.intake.request import IntakeRequest

    return IntakeRequest(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()})


def run(request: dict[str, Any]) -> dict[str, Any]:
    """What `edgepack.convert` gave, as data: its result, its error, or the traceback of a bug."""
    import edgepack

    try:
        result = edgepack.convert(
            request["model"],
            request["output"],
            shapes=request["shapes"],
            atol=request["atol"],
            rtol=request["rtol"],
            intake=intake(request["options"]),
        )
    except edgepack.EdgepackError as error:
        return {"error": {"kind": error.kind, "cause": error.cause, "fix": error.fix}}
    except Exception as error:
        return {"bug": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    return {"result": result.as_json()}


def main() -> None:
    """Convert what the request names."""
    request = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    Path(request["report"]).write_text(json.dumps(run(request)), encoding="utf-8")


if __name__ == "__main__":
    main()
