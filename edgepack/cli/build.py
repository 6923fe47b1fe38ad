"""`edgepack build`."""

from __future__ import annotations

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
    intake_request,
    parse_batch,
    parse_shapes,
)

_EPILOG = """Examples:

edgepack build model.keras -t android -t web

edgepack build emotion_model.hdf5 -t jetson-orin -t android -t ios -t web --calibration faces.npz -o dist/

edgepack build model.onnx -t ./my-board.yaml --precision fp16 --shape image=1x224x224x3"""


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
        str, typer.Option("--precision", help="auto, fp32, fp16 or int8, for all targets.")
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            help="Real inputs in the model's own preprocessing: .npz (one array [N, …] per input) or .npy.",
        ),
    ] = None,
    shape: ShapeOption = None,
    batch: BatchOption = None,
    atol: AtolOption = None,
    rtol: RtolOption = None,
    signature: SignatureOption = None,
    inputs: InputsOption = None,
    outputs: OutputsOption = None,
    op_handler: OpHandlerOption = None,
    layout: LayoutOption = None,
    app: Annotated[
        str | None, typer.Option("--app", help="Name of the app. [default: the model's file name]")
    ] = None,
    app_version: Annotated[
        str, typer.Option("--app-version", help="Version for the manifest.")
    ] = "0.0.0",
    release_seq: Annotated[
        int, typer.Option("--release-seq", min=0, help="Place in the order of releases.")
    ] = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Build one verified bundle for each target from a trained model.

    Every stage is compared with the source framework; the finished bundle answers its golden tensors before it is put in place.
    """
    from edgepack.cli.live import live_progress
    from edgepack.cli.show import build_table, print_json
    from edgepack.pipeline import build as build_bundles

    with live_progress(quiet=json) as progress:
        results = build_bundles(
            model,
            targets=target,
            output_dir=output,
            precision=precision,
            calibration=calibration,
            shapes=parse_shapes(shape),
            batch=parse_batch(batch),
            atol=atol,
            rtol=rtol,
            intake=intake_request(signature, inputs, outputs, op_handler, layout),
            app=app,
            version=app_version,
            release_seq=release_seq,
            overwrite=overwrite,
            progress=progress,
        )
    if json:
        print_json({"bundles": [r.as_json() for r in results]})
    else:
        build_table(results)
