"""`edgepack build`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from edgepack.cli.options import (
    AtolOption,
    BatchOption,
    InputsOption,
    Json,
    LayoutOption,
    ModelArgument,
    OpHandlerOption,
    OutputsOption,
    Overwrite,
    RtolOption,
    ShapeOption,
    SignatureOption,
    TrustModelOption,
    ask_password,
    intake_request,
    parse_batch,
    parse_shapes,
)

_EPILOG = """Examples:

edgepack build model.keras -t android -t web

edgepack build emotion_model.hdf5 -t jetson-orin -t android -t ios -t web --calibration faces.npz -o dist/

edgepack build model.keras -t android --calibration photos/ --preprocess torch --eval labelled/ --metric top1 --max-drop 0.5

edgepack build model.onnx -t ./my-board.yaml --precision fp16 --shape image=1x224x224x3

edgepack build model.onnx -t jetson-orin --app digits --release-seq 7 --sign release.pem"""


class Prefer(str, Enum):
    """The values of --prefer."""

    speed = "speed"
    size = "size"
    accuracy = "accuracy"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build", epilog=_EPILOG)(build)


def build(
    model: ModelArgument,
    target: Annotated[
        list[str],
        typer.Option(
            "-t", "--target", help="A target's name or YAML file. Repeatable.", show_default=False
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the bundles.")] = Path(
        "dist"
    ),
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="auto, or one that the targets have: fp32, fp16, bf16, int8, fp16-weights, int8-weights, int4-weights.",
        ),
    ] = "auto",
    calibration: Annotated[
        str | None,
        typer.Option(
            "--calibration",
            metavar="DATA",
            help="Real inputs in the model's own preprocessing: .npz (one array [N, …] per input), .npy, .csv, a folder of images, "
            "module:function (runs your code), or random.",
        ),
    ] = None,
    preprocess: Annotated[
        str | None,
        typer.Option(
            "--preprocess",
            metavar="NAME|FILE",
            help="How images become the input: tf, caffe, torch, unit, raw, or a YAML file. Image files are read so, arrays are taken to "
            "be so already, and the loader is told.",
        ),
    ] = None,
    evaluation: Annotated[
        str | None,
        typer.Option(
            "--eval",
            metavar="DATA",
            help="The same with labels, to measure accuracy with. [default: agreement with the float model on --calibration]",
        ),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            help="top1, top5, mse, mae, iou or module:function, on --eval. [default: top1]",
        ),
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(
            "--max-drop",
            min=0,
            help="By how much a precision may be worse than float32. [default: 0.5 points, of agreement 1; mse, mae and yours have none]",
        ),
    ] = None,
    prefer: Annotated[
        Prefer,
        typer.Option("--prefer", help="What counts among precisions that are accurate enough."),
    ] = Prefer.speed,
    shape: ShapeOption = None,
    batch: BatchOption = None,
    atol: AtolOption = None,
    rtol: RtolOption = None,
    signature: SignatureOption = None,
    inputs: InputsOption = None,
    outputs: OutputsOption = None,
    op_handler: OpHandlerOption = None,
    layout: LayoutOption = None,
    trust_model: TrustModelOption = False,
    app: Annotated[
        str | None, typer.Option("--app", help="Name of the app. [default: the model's file name]")
    ] = None,
    app_version: Annotated[
        str, typer.Option("--app-version", help="Version for the manifest.")
    ] = "0.0.0",
    release_seq: Annotated[
        int, typer.Option("--release-seq", min=0, help="Place in the order of releases.")
    ] = 0,
    sign: Annotated[
        Path | None,
        typer.Option(
            "--sign", metavar="KEY.pem", help="Sign the bundles with this key (edgepack keygen)."
        ),
    ] = None,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Build one verified bundle for each target from a trained model.

    Every stage is compared with the source framework; the finished bundle answers its golden tensors before it is put in place.
    """
    from edgepack.cli.live import live_progress
    from edgepack.cli.show import build_table, print_json
    from edgepack.pipeline import build as build_bundles

    key = None
    if sign is not None:
        from edgepack.trust.keys import load_private

        key = load_private(sign, ask_password)
    with live_progress(quiet=json) as progress:
        results = build_bundles(
            model,
            targets=target,
            output_dir=output,
            precision=precision,
            calibration=calibration,
            preprocessing=preprocess,
            evaluation=evaluation,
            metric=metric,
            max_drop=max_drop,
            prefer=prefer.value,
            shapes=parse_shapes(shape),
            batch=parse_batch(batch),
            atol=atol,
            rtol=rtol,
            intake=intake_request(signature, inputs, outputs, op_handler, layout, trust_model),
            app=app,
            version=app_version,
            release_seq=release_seq,
            sign=key,
            overwrite=overwrite,
            progress=progress,
        )
    if json:
        print_json({"bundles": [r.as_json() for r in results]})
    else:
        build_table(results)
